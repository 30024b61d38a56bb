"""An utterance, and a text that came whole, go on behind any of their checkpoints, with real engine, codec and mark: no
byte differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from csm.v1 import tts_pb2

from tests.support.text_streams import messages_of

TEXT = "The station is closed, please wait until Monday."
SENTENCES = "The station is closed. Please wait until Monday!"
# What the default tests say: each sentence has a checkpoint inside, and the last one ends behind one.
SHORT_TEXT = "The station is closed."
SHORT_SENTENCES = "Emma is tired. Please wait!"
FROM_START = {tts_pb2.AUDIO_ENCODING_OGG_OPUS, tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_AAC}


def hear(
    sealing_tts: Any, audio: tts_pb2.AudioConfig, after: Sequence[bytes] = (), text: str = TEXT
) -> tuple[bytes, list[bytes], list[int], Any, Any]:
    """(bytes, states, position in the bytes of each state, header, summary)"""
    request = tts_pb2.StreamSynthesizeRequest(audio_config=audio)
    request.input.text = text
    request.sampling_params.seed = 5
    request.stream_config.send_checkpoints = True
    request.stream_config.checkpoints.extend(after)
    content, states, places, header = b"", [], [], None
    for message in sealing_tts.StreamSynthesize(request, timeout=200):
        header = message.header if message.HasField("header") else header
        content += message.audio_chunk.audio_content
        if message.HasField("checkpoint"):
            states.append(message.checkpoint.state)
            places.append(len(content))
    return content, states, places, header, message.summary


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM), id="pcm"),
        *(
            pytest.param(
                tts_pb2.AudioConfig(audio_encoding=encoding, sample_rate_hertz=rate_hz, speed=speed),
                id=f"{tts_pb2.AudioEncoding.Name(encoding)[15:].lower()}, {rate_hz} Hz, speed {speed}",
                marks=pytest.mark.slow,
            )
            for encoding, rate_hz, speed in (
                (tts_pb2.AUDIO_ENCODING_WAV, 16_000, 1),
                (tts_pb2.AUDIO_ENCODING_MULAW, 8_000, 1),
                (tts_pb2.AUDIO_ENCODING_FLAC, 24_000, 1),
                (tts_pb2.AUDIO_ENCODING_FLAC, 44_100, 1),
                (tts_pb2.AUDIO_ENCODING_PCM, 24_000, 1.5),
                (tts_pb2.AUDIO_ENCODING_OGG_OPUS, 24_000, 1),
                (tts_pb2.AUDIO_ENCODING_MP3, 24_000, 1),
                (tts_pb2.AUDIO_ENCODING_AAC, 24_000, 1),
            )
        ),
    ],
)
def test_an_utterance_resumes_after_each_checkpoint_bit_for_bit(sealing_tts: Any, audio: tts_pb2.AudioConfig) -> None:
    """So the watermark's phase and loudness are the same."""
    text, step = (TEXT, 1) if audio.sample_rate_hertz else (SHORT_TEXT, 2)
    whole, states, places, _, summary = hear(sealing_tts, audio, text=text)
    assert len(states) >= 3
    is_from_start = audio.audio_encoding in FROM_START or audio.speed > 1
    for count, place in list(enumerate(places, 1))[::step]:
        rest, _, _, header, again = hear(sealing_tts, audio, states[:count], text)
        # The first state may come before the codec's first checkpoint.
        assert header.resumed_frame_count >= 5 * count - 4
        assert bool(header.first_sample_offset) != is_from_start or (count == 1 and not header.first_sample_offset)
        assert rest == whole[place if header.first_sample_offset else 0 :]
        assert again.watermark == summary.watermark
        assert again.stats.sample_count == summary.stats.sample_count
        assert again.stats.frame_count == summary.stats.frame_count
        assert again.finish_reason == summary.finish_reason


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM), id="pcm"),
        *(
            pytest.param(tts_pb2.AudioConfig(audio_encoding=encoding, speed=speed), id=name, marks=pytest.mark.slow)
            for name, encoding, speed in (
                ("flac", tts_pb2.AUDIO_ENCODING_FLAC, 1),
                ("faster", tts_pb2.AUDIO_ENCODING_PCM, 1.5),
                ("opus", tts_pb2.AUDIO_ENCODING_OGG_OPUS, 1),
            )
        ),
    ],
)
def test_a_whole_text_resumes_after_each_checkpoint_bit_for_bit(
    sealing_tts: Any, audio: tts_pb2.AudioConfig, request: pytest.FixtureRequest
) -> None:
    """It is what StreamSynthesizeText says, of which its gateways know the sentences."""
    text, step = (SHORT_SENTENCES, 2) if request.node.callspec.id == "pcm" else (SENTENCES, 1)
    whole, states, places, _, summary = hear(sealing_tts, audio, text=text)
    config = tts_pb2.StreamSynthesizeRequest(audio_config=audio)
    config.sampling_params.seed = 5
    in_pieces = sealing_tts.StreamSynthesizeText(iter(messages_of(config, [text])), timeout=200)
    assert b"".join(message.audio_chunk.audio_content for message in in_pieces) == whole
    assert len(states) >= 4  # one inside each sentence, and one after it; more if few frames come in a message
    num_inside, asked = 0, list(enumerate(places, 1))[::step]
    for count, place in asked:
        rest, _, _, header, again = hear(sealing_tts, audio, states[:count], text)
        num_inside += header.first_sample_offset > 0
        assert header.resumed_frame_count > 0
        assert rest == whole[place if header.first_sample_offset else 0 :]
        assert again.watermark == summary.watermark
        assert again.stats.sample_count == summary.stats.sample_count
        assert again.stats.frame_count == summary.stats.frame_count
    # The first state may come before the codec's first checkpoint. At another speed nothing goes on inside a sentence;
    # Opus encoders never go on.
    least = len(asked) - 1
    assert num_inside >= {"pcm": least, "flac": least, "faster": 2, "opus": 0}[request.node.callspec.id]
