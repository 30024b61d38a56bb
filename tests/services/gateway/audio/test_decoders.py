"""Recordings in every format, written by libsndfile."""

from __future__ import annotations

import io
import math

import av
import numpy as np
import pytest
import soundfile
from csm.codec.v1 import codec_pb2

from services.gateway.audio.decoders import UnreadableAudioError, decode_samples
from services.gateway.audio.frames import to_frame
from services.gateway.audio.pieces import joined, ogg_opus_pieces, sample_pieces, wav_pieces
from services.gateway.audio.recording import Recording

RATE_HZ = 16_000


def tone(hz: float = 440, sample_count: int = RATE_HZ, rate_hz: int = RATE_HZ) -> np.ndarray:
    return 0.5 * np.sin(2 * math.pi * hz * np.arange(sample_count) / rate_hz)


def written(samples: np.ndarray, container: str, subtype: str, rate_hz: int = RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def read_wav(content: bytes) -> Recording:
    return joined(wav_pieces(io.BytesIO(content)), 3600)


def decode_ogg_opus(content: bytes, max_seconds: float = 3600) -> Recording:
    return joined(ogg_opus_pieces(io.BytesIO(content)), max_seconds)


def values(recording: Recording) -> np.ndarray:
    if recording.sample_format == codec_pb2.SAMPLE_FORMAT_F32LE:
        return np.frombuffer(recording.samples, "<f4").astype(float)
    return np.frombuffer(recording.samples, "<i2") / 32_768


@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize(
    ("subtype", "error"),
    [("PCM_U8", 1 / 120), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("FLOAT", 1e-6)]
    + [("ULAW", 0.02), ("ALAW", 0.02)],
)
def test_wav_of_every_kind_is_read(container: str, subtype: str, error: float) -> None:
    recording = read_wav(written(tone(), container, subtype))
    assert recording.sample_rate_hz == RATE_HZ and recording.duration_s == 1
    assert abs(values(recording) - tone()).max() < error


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_stereo_is_averaged(subtype: str) -> None:
    both = np.stack([tone(440), tone(300)], axis=1)
    recording = read_wav(written(both, "WAV", subtype))
    assert abs(values(recording) - both.mean(axis=1)).max() < 0.02
    loud = np.full((100, 2), 0.99)
    assert abs(values(read_wav(written(loud, "WAV", subtype))) - 0.99).max() < 0.02  # nothing is clipped or halved


@pytest.mark.parametrize(("codec", "subtype"), [("pcm_mulaw", "ULAW"), ("pcm_alaw", "ALAW"), ("pcm_s16le", "PCM_16")])
def test_headerless_samples_are_read(codec: str, subtype: str) -> None:
    recording = decode_samples(codec, written(tone(), "RAW", subtype), 1, RATE_HZ)
    assert recording.duration_s == 1 and abs(values(recording) - tone()).max() < 0.02


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("channel_count", [1, 2])
def test_ogg_opus_is_read(rate_hz: int, channel_count: int) -> None:
    said = tone(440, rate_hz, rate_hz)
    recording = decode_ogg_opus(written(np.stack([said] * channel_count, axis=1), "OGG", "OPUS", rate_hz))
    assert (recording.sample_rate_hz, recording.duration_s) == (48_000, 1)
    heard, ideal = values(recording)[4800:-4800], tone(440, 48_000, 48_000)[4800:-4800]
    assert np.corrcoef(heard, ideal)[0, 1] > 0.99
    assert heard.std() == pytest.approx(ideal.std(), rel=0.1)


def test_ogg_opus_whose_title_is_no_utf8_is_read() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="ogg", metadata_encoding="latin-1") as container:
        container.metadata["title"] = "caf\u00e9"
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        container.mux([*stream.encode(to_frame(bytes(2 * 48_000), 48_000)), *stream.encode(None)])
    assert b"caf\xe9" in file.getvalue()
    assert decode_ogg_opus(file.getvalue()).duration_s == pytest.approx(1.0)


def test_other_codecs_in_ogg_are_refused() -> None:
    opus = written(tone(), "OGG", "OPUS")
    for content, sentence in (
        (written(tone(), "OGG", "VORBIS"), "is not one Opus stream"),
        (written(tone(), "WAV", "PCM_16"), "is not Ogg Opus that can be read"),
        (b"", "is not"),
        (b"OggS" + bytes(100), "is not"),
        (opus[:60], "is not"),
        (written(np.zeros((RATE_HZ, 3)), "OGG", "OPUS"), "has 3 channels"),
    ):
        with pytest.raises(UnreadableAudioError, match=sentence):
            decode_ogg_opus(content)


@pytest.mark.parametrize("damage", [(20_000, 0), (20_000, 40_000), (300, 500), (45, 60)])
def test_truncated_opus_gives_its_audio_or_an_error_message(damage: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 5 * RATE_HZ)
    opus = written(noise, "OGG", "OPUS")
    first, length = damage[0], damage[1] or len(opus)
    torn = opus[:first] + bytes(length) + opus[first + length :]
    try:
        assert 0 < decode_ogg_opus(torn).duration_s <= 5
    except UnreadableAudioError as error:
        assert str(error).endswith(".")


def test_a_recording_over_the_limit_is_refused_at_the_first_piece_beyond_it() -> None:
    with pytest.raises(UnreadableAudioError, match=r"lasts more than 0\.5 s"):
        decode_ogg_opus(written(tone(), "OGG", "OPUS"), 0.5)
    file = io.BytesIO(bytes(100 * RATE_HZ))
    with pytest.raises(UnreadableAudioError, match="lasts more than 10 s"):
        joined(sample_pieces("pcm_alaw", file, 1, RATE_HZ), 10)
    assert file.tell() < 15 * RATE_HZ


@pytest.mark.parametrize(
    ("codec", "channels"), [("pcm_mulaw", 1), ("pcm_s16le", 2), ("pcm_s24le", 2), ("pcm_f32le", 1)]
)
def test_decoded_pieces_join_to_the_whole_at_any_read_size(codec: str, channels: int) -> None:
    size = {"pcm_mulaw": 1, "pcm_s16le": 2, "pcm_s24le": 3, "pcm_f32le": 4}[codec] * channels
    samples = np.sin(np.arange(50_000)).astype("<f4").tobytes() if codec == "pcm_f32le" else bytes(range(240)) * 1000
    samples = samples[: len(samples) // size * size]
    whole = decode_samples(codec, samples, channels, RATE_HZ)

    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 1, 997))

    assert joined(sample_pieces(codec, Dribble(samples), channels, RATE_HZ), 3600) == whole
    with pytest.raises(UnreadableAudioError, match="not a whole"):
        joined(sample_pieces("pcm_s16le", Dribble(b"abc"), 1, RATE_HZ), 3600)
