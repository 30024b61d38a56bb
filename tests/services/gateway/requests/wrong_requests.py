"""Changes to a valid request; for each field's path, ten changes that make it wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from csm.v1 import tts_pb2

from services.gateway.audio.encodings import open_encoder
from services.gateway.audio.packets.formats import flac_header
from services.gateway.audio.wav import wav_header
from tests.support.fake_stages import fake_frames

PCM, WAV, OPUS = tts_pb2.AUDIO_ENCODING_PCM, tts_pb2.AUDIO_ENCODING_WAV, tts_pb2.AUDIO_ENCODING_OGG_OPUS
MULAW, ALAW = tts_pb2.AUDIO_ENCODING_MULAW, tts_pb2.AUDIO_ENCODING_ALAW
MP3, AAC, FLAC = tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_AAC, tts_pb2.AUDIO_ENCODING_FLAC
Request = tts_pb2.StreamSynthesizeRequest


def text(value: str) -> Callable[[Request], None]:
    return lambda request: setattr(request.input, "text", value)


def speaker(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.input, "speaker", value)


def encoding(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.audio_config, "audio_encoding", value)


def rate(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.audio_config, "sample_rate_hertz", value)


def audio_format(encoding: Any, rate: int) -> Callable[[Request | tts_pb2.SynthesizeRequest], None]:
    config = tts_pb2.AudioConfig(audio_encoding=encoding, sample_rate_hertz=rate)
    return lambda request: request.audio_config.CopyFrom(config)


def sampling(name: str, value: float) -> Callable[[Request], None]:
    return lambda request: setattr(request.sampling_params, name, value)


def seconds(value: float) -> Callable[[Request | tts_pb2.SynthesizeRequest], None]:
    return lambda request: request.max_audio_duration.FromNanoseconds(round(value * 1e9))


def chunk(value: float) -> Callable[[Request], None]:
    return lambda request: request.stream_config.chunk_duration.FromNanoseconds(round(value * 1e9))


def heard(value: int) -> Callable[[Request], None]:
    return lambda request: setattr(request.stream_config, "heard_sample_count", value)


def request_id(value: str) -> Callable[[Request], None]:
    return lambda request: setattr(request, "request_id", value)


def language(value: str) -> Callable[[Request], None]:
    return lambda request: setattr(request.voice, "language_code", value)


def labels(count: int) -> Callable[[Request], None]:
    return lambda request: request.labels.update({str(index): "x" for index in range(count)})


def turn(**fields: Any) -> Callable[[Request], Any]:
    return lambda request: request.context.turns.add(**({"text": "Hi.", "speaker": 0} | fields))


def turns(count: int) -> Callable[[Request], Any]:
    return lambda request: [turn()(request) for _ in range(count)]


def recording(content: bytes, encoding: Any, rate: int = 0, channels: int = 0) -> Callable[[Request], None]:
    audio_format = tts_pb2.AudioFormat(audio_encoding=encoding, sample_rate_hertz=rate, channel_count=channels)
    made = tts_pb2.AudioRecording(audio_content=content, audio_format=audio_format)
    return turn(audio=tts_pb2.TurnAudio(recording=made))


def codes(first: int = 0, count: int = 2, **changes: object) -> Callable[[Request], None]:
    frames = fake_frames(first, count)
    for name, value in changes.items():
        setattr(frames, name, value)
    return turn(audio=tts_pb2.TurnAudio(codes=frames))


GOOD_WAV = wav_header(24_000, 2400) + bytes(4800)


TWELVE_BIT = GOOD_WAV[:34] + struct.pack("<H", 12) + GOOD_WAV[36:]


SURROUND = GOOD_WAV[:22] + struct.pack("<H", 6) + GOOD_WAV[24:]


def speed(value: float) -> Callable[[Request], None]:
    return lambda request: setattr(request.audio_config, "speed", value)


def flac_of(rate_hz: int) -> bytes:
    """A second of noise at any rate."""
    encoder = open_encoder(FLAC, rate_hz, rate_hz, serial=1)
    return flac_header(rate_hz, None) + encoder.push(bytes(range(250)) * (rate_hz // 125)).content


WRONG: dict[str, list[Callable[[Request], None]]] = {
    "input.text": [text(""), text(" "), text("\n\t"), text("\u3000"), text("x" * 4097), text("ü" * 5000)]
    + [text(white * 7) for white in "\r\v\f "],
    "input.speaker": [speaker(value) for value in (-1, -2, -99, 100, 101, 500, 1000, 12345, 2**31 - 1, -(2**31))],
    "audio_config.audio_encoding": [encoding(value) for value in (0, 9, 10, 11, 42, 99, 1000, -1, 2**31 - 1, -(2**31))],
    "audio_config.sample_rate_hertz": [
        *(rate(value) for value in (-1, 1, 7999, 23999, 24001, 96000, 192000, 2**31 - 1)),
        *(audio_format(OPUS, value) for value in (11025, 22050, 32000, 44100)),
        *(audio_format(MULAW, 64000), audio_format(WAV, 6000)),
    ],
    "audio_config.speed": [
        speed(value)
        for value in (-1, -0.25, 1e-9, 0.2499, 4.0001, 5, 100, 1e30, float("nan"), float("inf"), -float("inf"))
    ],
    "sampling_params.temperature": [
        sampling("temperature", value)
        for value in (-0.1, -1, -1e30, 2.1, 3, 100, 1e30, float("nan"), float("inf"), -float("inf"))
    ],
    "sampling_params.top_k": [
        sampling("top_k", value) for value in (0, -1, -50, 2049, 2051, 3000, 10000, 99999, 2**31 - 1, -(2**31))
    ],
    "sampling_params.seed": [
        sampling("seed", value) for value in (-1, -2, -3, -7, -42, -100, -(2**31), -(2**32), -(2**62), -(2**63))
    ],
    "max_audio_duration": [seconds(value) for value in (0, -1, -0.08, 0.01, 0.079, 300.001, 301, 400, 3600, 86400)],
    "voice.language_code": [
        language(f"en-{'x' * length}") for length in (33, 34, 35, 61, 62, 100, 125, 252, 1000, 100_000)
    ],
    "stream_config.chunk_duration": [
        chunk(value) for value in (0, -0.08, -1, -90, 300.001, 301, 400, 1000, 3600, 86400)
    ],
    "stream_config.heard_sample_count": [
        heard(value) for value in (-1, -2, -3, -7, -42, -100, -(2**31), -(2**32), -(2**62), -(2**63))
    ],
    "request_id": [
        request_id(value)
        for value in (
            *("x", "1", "not-a-uuid", "0b4a7b1e3f474a4e9f512f1f0a5a8f11", "{0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11}"),
            *("urn:uuid:0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11", "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f1"),
            *("0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11\n", "x" * 36, " "),
        )
    ],
    "labels": [labels(count) for count in (9, 10, 11, 12, 16, 20, 32, 64)]
    + [lambda request: request.labels.update({"a" * 65: "x"}), lambda request: request.labels.update({"a": "x" * 65})],
    "context.turns": [turns(count) for count in (65, 66, 70, 80, 100, 128)]
    + [recording(bytes(2 * 8000 * length), PCM, 8000) for length in (161, 170, 200, 300)],
    "context.turns[0].text": [turn(text=value) for value in ("", " ", "\n", "\t", "  ", "\r\n", "\v", "\f")]
    + [turn(text="x" * count) for count in (4097, 5000)],
    "context.turns[0].speaker": [
        turn(speaker=value) for value in (-1, -2, -99, 100, 101, 500, 1000, 12345, 2**31 - 1, -(2**31))
    ],
    "context.turns[0].audio.recording.audio_format.audio_encoding": [
        recording(b"1234", value, 24000) for value in (0, 9, 10, 11, 42, 99, 1000, -1, 2**31 - 1, -(2**31))
    ],
    "context.turns[0].audio.recording.audio_format.sample_rate_hertz": [
        recording(b"1234", PCM, value) for value in (0, -1, 1, 4000, 7999, 192001, 200000, 384000, 2**31 - 1, -(2**31))
    ]
    + [recording(flac_of(7_999), FLAC), recording(flac_of(655_350), FLAC)],
    "context.turns[0].audio.recording.audio_format.channel_count": [
        recording(b"1234", PCM, 24000, value) for value in (-1, 3, 4, 5, 6, 7, 8, 16, 100, -2)
    ],
    "context.turns[0].audio.recording.audio_content": [
        *(recording(b"", PCM, 24000), recording(b"123", PCM, 24000), recording(b"1", PCM, 24000)),
        *(recording(b"", WAV), recording(b"RIFF", WAV), recording(b"ID3" + bytes(60), WAV)),
        *(recording(GOOD_WAV[:30], WAV), recording(TWELVE_BIT, WAV), recording(SURROUND, WAV)),
        *(recording(b"123456", PCM, 24000, 2), recording(b"123", MULAW, 8000, 2), recording(b"OggS", OPUS)),
        recording(wav_header(24_000, 0), WAV),
        *(recording(content, value) for content in (b"", GOOD_WAV, b"ID3") for value in (MP3, AAC, FLAC)),
        recording(flac_header(24_000, None), FLAC),
    ],
    "context.turns[0].audio.codes": [
        *(codes(frame_count=3), codes(frame_count=0), codes(frame_count=-1), codes(codebook_count=0)),
        *(codes(codebook_count=8), codes(codebook_count=33), codes(codes=b""), codes(codes=b"x")),
        *(codes(codes=b"\xff" * 128), codes(codes=struct.pack("<64H", *[2048] * 64))),
    ],
    "context.turns[0].audio": [turn(audio=tts_pb2.TurnAudio())],
}
