"""A text said by sentence is what its sentences are, said one after the other. With the built-in voice, which ends its
sentences by itself.
"""

from __future__ import annotations

import csm_client
import numpy as np
import pytest
from csm.v1 import tts_pb2
from csm_client import Turn

from tests.support.wav import wav_of

SENTENCES = ("The station is closed.", "Please wait until Monday.", "Emma is tired.")
SHORT = ("Emma is tired.", "Please wait.", "They sing well.")


def test_a_text_is_its_sentences_one_after_the_other(voice_target: str) -> None:
    """With consecutive seeds, and the earlier sentences' codes as context. Only the watermark differs."""
    with csm_client.Client(voice_target, timeout_s=100) as client:
        turns: list[Turn] = []
        samples, codes = b"", b""
        for index, sentence in enumerate(SHORT):
            said = client.stream_synthesize(sentence, speaker=1, seed=5 + index, context=turns, return_codes=True)
            speech = said.read_all()
            samples, codes = samples + speech.samples, codes + speech.summary.codes.codes
            turns.append(Turn(1, sentence, codes=speech.summary.codes))

        stream = client.stream_synthesize_text(" ".join(SHORT), speaker=1, seed=5, return_codes=True)
        text = stream.read_all()
    assert text.summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
    assert tuple(sentence.text for sentence in stream.sentences) == SHORT
    assert text.summary.codes.codes == codes
    alone, together = (np.frombuffer(said, "<i2").astype(np.float64) for said in (samples, text.samples))
    first = stream.sentences[1].sample_offset
    assert np.array_equal(together[:first], alone[:first])
    assert 25 < 10 * np.log10(np.mean(alone**2) / np.mean((together - alone) ** 2))  # the marks lie at 30 dB
    assert text.summary.stats.dropped_turn_count == 0


@pytest.mark.parametrize(("speaker", "words_a_flush"), [(0, 2), pytest.param(1, 100, marks=pytest.mark.slow)])
def test_the_mark_of_a_text_is_found_in_the_whole(voice_target: str, speaker: int, words_a_flush: int) -> None:
    """For both speakers, even if sentences are shorter than the watermark's message: flushed every two words."""
    words = " ".join(SENTENCES[:2]).split()
    pieces = [f"{' '.join(words[at : at + words_a_flush])}\n\n" for at in range(0, len(words), words_a_flush)]
    with csm_client.Client(voice_target, timeout_s=100) as client:
        stream = client.stream_synthesize_text(pieces, speaker=speaker, seed=3)
        speech = stream.read_all()
        assert len(stream.sentences) == max(2, len(pieces))
        answer = client.detect_watermark(wav_of(speech.samples, speech.sample_rate_hz))
    assert answer.detected, answer.confidence
    assert speech.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL


MORE = ("The train leaves at nine.", "Good morning.", "We are at home.", "It is cold today.", "They sing well.")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_mark_of_100_of_100_texts_is_found(voice_target: str) -> None:
    """Three to five sentences, every other text flushed every three words, both speakers."""
    missed = []
    random = np.random.default_rng(0)
    with csm_client.Client(voice_target, timeout_s=300) as client:
        for number in range(100):
            count = int(random.integers(3, 6))
            text = " ".join(random.permutation([*SENTENCES, *MORE])[:count])
            words = text.split()
            flushed = [f"{' '.join(words[at : at + 3])}\n\n" for at in range(0, len(words), 3)]
            stream = client.stream_synthesize_text(
                flushed if number % 2 else [text], speaker=number // 2 % 2, seed=number
            )
            speech = stream.read_all()
            assert speech.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
            if not (answer := client.detect_watermark(wav_of(speech.samples, speech.sample_rate_hz))).detected:
                missed.append((number, text, answer.confidence))
    assert missed == []
