"""The distortions of the evaluation, as real programs make them, on a finished clip at 24 kHz.

Independent of channel.py, which only imitates some of these for training; Opus alone is the same program in both.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from csm.v1 import tts_pb2

from csm_codec.resample import Pcm, resample
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ
from recipes.builtin_voice.watermark.channel import opus_round_trip
from services.gateway.audio.encodings import ENCODINGS, open_encoder
from services.gateway.audio.pieces import joined


@dataclass(frozen=True, slots=True)
class Recording:
    """The distorted clip, as the detector gets it."""

    pcm: Pcm
    sample_rate_hz: int = SAMPLE_RATE_HZ


Distortion = Callable[[Pcm, np.random.Generator], Recording]


def distortions() -> dict[str, Distortion]:
    """The distortions by their names in the table."""
    return {
        "none": lambda pcm, _: Recording(pcm),
        "16 bit": lambda pcm, _: Recording(sixteen_bit(pcm)),
        "gain -12 dB": lambda pcm, _: Recording(sixteen_bit(pcm * np.float32(10 ** (-12 / 20)))),
        "noise 35 dB": lambda pcm, random: Recording(noisy(pcm, 35, random)),
        "noise 25 dB": lambda pcm, random: Recording(noisy(pcm, 25, random)),
        "low-pass 4 kHz": lambda pcm, _: Recording(low_pass(pcm, 4000)),
        "mu-law": lambda pcm, _: Recording(mu_law(pcm)),
        "16 kHz and back": lambda pcm, _: Recording(
            resample(resample(pcm, SAMPLE_RATE_HZ, 16000), 16000, SAMPLE_RATE_HZ)
        ),
        "8 kHz": lambda pcm, _: Recording(resample(pcm, SAMPLE_RATE_HZ, 8000), 8000),
        "8 kHz, mu-law": lambda pcm, _: Recording(mu_law(resample(pcm, SAMPLE_RATE_HZ, 8000)), 8000),
        "Opus 24 kbit/s": lambda pcm, _: Recording(opus_round_trip(pcm, 24)),
        "Opus 16 kbit/s": lambda pcm, _: Recording(opus_round_trip(pcm, 16)),
        "MP3 64 kbit/s": lambda pcm, _: Recording(served_as(tts_pb2.AUDIO_ENCODING_MP3, pcm)),
        "AAC 64 kbit/s": lambda pcm, _: Recording(served_as(tts_pb2.AUDIO_ENCODING_AAC, pcm)),
        "crop": lambda pcm, random: Recording(cropped(pcm, random)),
        "crop, Opus 24 kbit/s": lambda pcm, random: Recording(opus_round_trip(cropped(pcm, random), 24)),
    }


def beginnings() -> dict[str, Distortion]:
    """The start of a recording, where a stream's look-ahead is not complete yet."""

    def first(seconds: float) -> Distortion:
        return lambda pcm, _: Recording(pcm[: round(seconds * SAMPLE_RATE_HZ)])

    return {f"first {seconds:g} s": first(seconds) for seconds in (0.75, 1.0, 1.5)}


def piece(pcm: Pcm, random: np.random.Generator) -> Recording:
    """A part of half a second or longer, from any place."""
    length = random.integers(SAMPLE_RATE_HZ // 2, len(pcm) + 1)
    start = random.integers(len(pcm) - length + 1)
    return Recording(pcm[start : start + length])


def cropped(pcm: Pcm, random: np.random.Generator) -> Pcm:
    """The clip without up to 0.1 s at the beginning: off the frame grid and the message's start."""
    return pcm[random.integers(1, SAMPLE_RATE_HZ // 10) :]


def sixteen_bit(pcm: Pcm) -> Pcm:
    return (np.round(pcm.clip(-1, 1) * 32767) / 32767).astype(np.float32)


def noisy(pcm: Pcm, snr_db: float, random: np.random.Generator) -> Pcm:
    """White noise, below the clip's mean power."""
    level = np.sqrt(np.mean(np.square(pcm, dtype=np.float64))) * 10 ** (-snr_db / 20)
    return (pcm + level * random.standard_normal(len(pcm))).astype(np.float32)


def low_pass(pcm: Pcm, cutoff_hz: float) -> Pcm:
    """Butterworth of the sixth order, which also shifts phases."""
    import scipy.signal  # takes a second

    sections = scipy.signal.butter(6, cutoff_hz, fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(scipy.signal.sosfilt(sections, pcm), dtype=np.float32)


def served_as(encoding: tts_pb2.AudioEncoding, pcm: Pcm) -> Pcm:
    """Encoded by the gateway at 24 kHz and decoded, with the encoder's delay."""
    encoder = open_encoder(encoding, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, serial=1)
    content = encoder.push(np.round(pcm.clip(-1, 1) * 32767).astype("<i2").tobytes()).content + encoder.finish().content
    heard = joined(ENCODINGS[encoding].open_pieces(io.BytesIO(content), 1, 0), max_seconds=3600)
    return (np.frombuffer(heard.samples, "<i2") / 32768).astype(np.float32)


def mu_law(pcm: Pcm) -> Pcm:
    """ITU-T G.711 from and to 14-bit values: sign, three bits of segment, four of step."""
    value = np.round(pcm.astype(np.float64).clip(-1, 1) * 8158).astype(int)
    biased = np.minimum(np.abs(value), 8158) + 33
    segment = np.floor(np.log2(biased)).astype(int) - 5
    step = (biased >> (segment + 1)) & 15
    heard = ((2 * step + 33) << segment) - 33
    return (np.sign(value) * heard / 8158).astype(np.float32)
