"""Text to watermarked speech through the three real stages, with a bundle of random weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import csm_client
import pytest
from csm.v1 import tts_pb2
from csm_client import Turn

from tests.support.wav import wav_of


def test_text_becomes_audio_with_a_watermark(client: csm_client.Client) -> None:
    speech = client.stream_synthesize("Hello from the other side.", max_seconds=0.8, seed=1).read_all()
    assert speech.duration_s == pytest.approx(0.8)
    assert any(speech.samples)
    assert speech.summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION
    assert speech.summary.watermark.key_id == client.server_info().watermark.key_id != ""
    assert speech.summary.watermark.coverage != tts_pb2.WATERMARK_COVERAGE_UNSPECIFIED


def test_same_seed_gives_the_same_audio_also_in_a_batch_and_in_one_message(client: csm_client.Client) -> None:
    def say(seed: int) -> bytes:
        return client.stream_synthesize("Hello.", max_seconds=0.8, seed=seed).read_all().samples

    alone = say(1)
    with ThreadPoolExecutor(2) as pool:
        together, other = pool.map(say, (1, 2))
    assert together == alone != other
    assert client.synthesize("Hello.", max_seconds=0.8, seed=1).samples == alone


def test_long_audio_is_found_to_be_marked(client: csm_client.Client) -> None:
    speech = client.stream_synthesize("A long story.", max_seconds=3, seed=3).read_all()
    assert speech.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
    answer = client.detect_watermark(wav_of(speech.samples, speech.sample_rate_hz))
    assert (answer.detected, answer.key_id) == (True, speech.summary.watermark.key_id)


def test_a_conversation_of_codes_and_recordings_changes_the_audio(client: csm_client.Client) -> None:
    first = client.synthesize("How are you?", max_seconds=0.4, seed=1, return_codes=True)
    assert isinstance(first.codes, bytes)  # sealed, as it is by default
    turns = [
        Turn(0, "How are you?", codes=first.codes),
        Turn(1, "Fine.", wav=wav_of(first.samples, first.sample_rate_hz)),
    ]
    alone = client.synthesize("Good.", max_seconds=0.4, seed=1)
    answered = client.synthesize("Good.", max_seconds=0.4, seed=1, context=turns)
    assert answered.samples != alone.samples
    assert answered.summary.stats.context_token_count > alone.summary.stats.context_token_count
    assert answered.summary.stats.dropped_turn_count == 0


def test_untrained_weights_are_reported(client: csm_client.Client) -> None:
    info = client.server_info()
    assert "untrained" in info.model_notice
    assert info.model_notice.count("untrained") == 1
    assert [voice.speaker for voice in client.list_voices()] == [0, 1]
