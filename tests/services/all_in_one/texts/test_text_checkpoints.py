"""A text goes on after any of its sentences, with real engine, codec and watermark, and no byte differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from csm.v1 import tts_pb2

from tests.support.text_streams import messages_of

# Each sentence is longer than what lies between two checkpoints, and the second one is neither the first nor the last.
TEXT = "Emma is tired. Please wait! They sing well."


@dataclass(frozen=True)
class Place:
    """A point of a text, and what a caller keeps there."""

    said: tuple[bytes, ...]
    inside: tuple[bytes, ...]
    num_bytes: int
    sentence_bytes: int  # before the sentence


@dataclass(frozen=True)
class Heard:
    content: bytes
    between: list[Place]  # after sentences
    inside: list[Place]
    header: Any
    summary: Any


def hear(sealing_tts: Any, audio: tts_pb2.AudioConfig, after: Place | None = None) -> Heard:
    config = tts_pb2.StreamSynthesizeRequest(audio_config=audio)
    config.sampling_params.seed = 5
    config.stream_config.send_checkpoints = True
    if after is not None:
        config.stream_config.checkpoints.extend(after.said)
        config.stream_config.speech_checkpoints.extend(after.inside)
    content, sentence_bytes, between, places, header = b"", 0, list[Place](), list[Place](), None
    said, inside = (after.said, after.inside) if after is not None else ((), ())
    for message in sealing_tts.StreamSynthesizeText(iter(messages_of(config, [TEXT])), timeout=200):
        content += message.audio_chunk.audio_content
        if message.HasField("header"):
            header = message.header
        if message.HasField("checkpoint"):
            said, inside, sentence_bytes = (*said, message.checkpoint.state), (), len(content)
            between.append(Place(said, inside, sentence_bytes, sentence_bytes))
        if message.HasField("speech_checkpoint"):
            inside = (*inside, message.speech_checkpoint.state)
            places.append(Place(said, inside, len(content), sentence_bytes))
    return Heard(content, between, places, header, message.summary)


@pytest.fixture(scope="module")
def whole_of(sealing_tts: Any) -> Callable[[tts_pb2.AudioConfig], Heard]:
    """The undisturbed text in a format, which is made once."""
    made = dict[bytes, Heard]()

    def whole(audio: tts_pb2.AudioConfig) -> Heard:
        key = audio.SerializeToString(deterministic=True)
        if key not in made:
            made[key] = hear(sealing_tts, audio)
        return made[key]

    return whole


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
def test_a_text_resumes_after_each_sentence_bit_for_bit(
    sealing_tts: Any, whole_of: Callable[[tts_pb2.AudioConfig], Heard], audio: tts_pb2.AudioConfig
) -> None:
    """So the watermark is continuous in phase and loudness. Opus is sent again from its start."""
    whole = whole_of(audio)
    assert len(whole.between) == 3
    for count, place in enumerate(whole.between, 1):
        begin = 0 if audio.audio_encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS else place.num_bytes
        rest = hear(sealing_tts, audio, place)
        assert rest.content == whole.content[begin:] and len(rest.between) == 3 - count
        check_summary(rest.summary, whole.summary)


def check_summary(again: Any, of_whole: Any) -> None:
    assert again.watermark == of_whole.watermark
    assert again.stats.sample_count == of_whole.stats.sample_count
    assert again.stats.frame_count == of_whole.stats.frame_count


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
def test_a_text_resumes_inside_a_sentence_bit_for_bit(
    sealing_tts: Any, whole_of: Callable[[tts_pb2.AudioConfig], Heard], audio: tts_pb2.AudioConfig
) -> None:
    """Opus is sent again from its start. At another speed the stream goes on at the sentence, without the engine."""
    whole = whole_of(audio)
    first, later = ([place for place in whole.inside if bool(place.said) is is_later] for is_later in (False, True))
    assert first and later
    num_inside = 0
    for place in (first[-1], later[len(later) // 2], later[-1]):
        rest = hear(sealing_tts, audio, place)
        assert rest.header.resumed_frame_count > 0 and rest.header.resumed_sentence_count == len(place.said)
        begin = place.num_bytes if rest.header.first_sample_offset else place.sentence_bytes
        if audio.audio_encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS:
            begin = 0
        num_inside += rest.header.first_sample_offset > 0
        assert rest.content == whole.content[begin:]
        check_summary(rest.summary, whole.summary)
    goes_on = audio.audio_encoding != tts_pb2.AUDIO_ENCODING_OGG_OPUS and not audio.speed
    assert num_inside >= 2 if goes_on else not num_inside
