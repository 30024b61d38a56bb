"""A text goes on after any of its sentences, with real engine, codec and watermark, and no byte differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from csm.v1 import tts_pb2

from tests.support.text_streams import messages_of

TEXT = "The station is closed. Please wait until Monday! Emma is tired."


def hear(
    sealing_tts: Any, audio: tts_pb2.AudioConfig, after: Sequence[bytes] = ()
) -> tuple[bytes, list[bytes], list[int], Any]:
    """(bytes, states, position in the bytes of each state, summary)"""
    config = tts_pb2.StreamSynthesizeRequest(audio_config=audio)
    config.sampling_params.seed = 5
    config.stream_config.send_checkpoints = True
    config.stream_config.checkpoints.extend(after)
    content, states, places = b"", [], []
    for message in sealing_tts.StreamSynthesizeText(iter(messages_of(config, [TEXT])), timeout=200):
        content += message.audio_chunk.audio_content
        if message.HasField("checkpoint"):
            states.append(message.checkpoint.state)
            places.append(len(content))
    return content, states, places, message.summary


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM), id="pcm"),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_WAV, sample_rate_hertz=16_000, speed=1.5),
            id="faster, other rate",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_FLAC), id="flac", marks=pytest.mark.slow
        ),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_OGG_OPUS), id="opus", marks=pytest.mark.slow
        ),
    ],
)
def test_a_text_resumes_after_each_sentence_bit_for_bit(sealing_tts: Any, audio: tts_pb2.AudioConfig) -> None:
    """So the watermark is continuous in phase and loudness. Opus is sent again from its start."""
    whole, states, places, summary = hear(sealing_tts, audio)
    assert len(states) == 3
    for count, place in enumerate(places, 1):
        begin = 0 if audio.audio_encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS else place
        rest, more, _, again = hear(sealing_tts, audio, states[:count])
        assert rest == whole[begin:] and len(more) == 3 - count
        assert again.watermark == summary.watermark
        assert again.stats.sample_count == summary.stats.sample_count
        assert again.stats.frame_count == summary.stats.frame_count


@dataclass(frozen=True)
class Place:
    """A point inside a sentence, and what a caller keeps there."""

    said: tuple[bytes, ...]
    inside: tuple[bytes, ...]
    num_bytes: int
    sentence_bytes: int  # before the sentence


def places_inside(
    sealing_tts: Any, audio: tts_pb2.AudioConfig, after: Place | None = None
) -> tuple[bytes, list[Place], Any, Any]:
    """(bytes, points inside sentences, header, summary)"""
    config = tts_pb2.StreamSynthesizeRequest(audio_config=audio)
    config.sampling_params.seed = 5
    config.stream_config.send_checkpoints = True
    if after is not None:
        config.stream_config.checkpoints.extend(after.said)
        config.stream_config.speech_checkpoints.extend(after.inside)
    content, sentence_bytes, places, header = b"", 0, [], None
    said, inside = (after.said, after.inside) if after is not None else ((), ())
    for message in sealing_tts.StreamSynthesizeText(iter(messages_of(config, [TEXT])), timeout=200):
        content += message.audio_chunk.audio_content
        if message.HasField("header"):
            header = message.header
        if message.HasField("checkpoint"):
            said, inside, sentence_bytes = (*said, message.checkpoint.state), (), len(content)
        if message.HasField("speech_checkpoint"):
            inside = (*inside, message.speech_checkpoint.state)
            places.append(Place(said, inside, len(content), sentence_bytes))
    return content, places, header, message.summary


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM), id="pcm"),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_WAV, sample_rate_hertz=16_000),
            id="other rate",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, speed=1.5),
            id="faster",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_FLAC), id="flac", marks=pytest.mark.slow
        ),
        pytest.param(
            tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_OGG_OPUS), id="opus", marks=pytest.mark.slow
        ),
    ],
)
def test_a_text_resumes_inside_a_sentence_bit_for_bit(sealing_tts: Any, audio: tts_pb2.AudioConfig) -> None:
    """Opus is sent again from its start. At another speed the stream goes on at the sentence, without the engine."""
    whole, places, _, summary = places_inside(sealing_tts, audio)
    first, later = [place for place in places if not place.said], [place for place in places if place.said]
    assert first and later
    num_inside = 0
    for place in (first[-1], later[len(later) // 2], later[-1]):
        rest, _, header, again = places_inside(sealing_tts, audio, place)
        assert header.resumed_frame_count > 0 and header.resumed_sentence_count == len(place.said)
        begin = place.num_bytes if header.first_sample_offset else place.sentence_bytes
        if audio.audio_encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS:
            begin = 0
        num_inside += header.first_sample_offset > 0
        assert rest == whole[begin:]
        assert again.watermark == summary.watermark
        assert again.stats.sample_count == summary.stats.sample_count
        assert again.stats.frame_count == summary.stats.frame_count
    goes_on = audio.audio_encoding != tts_pb2.AUDIO_ENCODING_OGG_OPUS and not audio.speed
    assert num_inside >= 2 if goes_on else not num_inside
