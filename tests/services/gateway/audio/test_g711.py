"""Mu-law and A-law, decoded by libsndfile."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from services.gateway.audio.g711 import ALAW, G711, MULAW

EVERY_SAMPLE = np.arange(-32_768, 32_768)


def decoded(content: bytes, subtype: str) -> np.ndarray:
    samples, _ = soundfile.read(
        io.BytesIO(content), format="RAW", subtype=subtype, samplerate=8_000, channels=1, dtype="int16"
    )
    return samples.astype(int)


@pytest.mark.parametrize(("law", "subtype", "least"), [(MULAW, "ULAW", 4), (ALAW, "ALAW", 8)])
def test_every_sample_comes_back_within_half_a_step(law: str, subtype: str, least: int) -> None:
    content = G711(law, 8_000).pack(EVERY_SAMPLE.astype("<i2").tobytes())
    assert len(content) == len(EVERY_SAMPLE)
    error = abs(decoded(content, subtype) - EVERY_SAMPLE)
    # 16 steps in each octave of magnitudes; below the first octave they are all of one size.
    # FFmpeg rounds to 14 bits first: that is the 4.
    assert (error <= np.maximum(least, (abs(EVERY_SAMPLE) + 132) / 32) + 4).all()


@pytest.mark.parametrize(("law", "silence"), [(MULAW, 0xFF), (ALAW, 0xD5)])
def test_silence_is_the_byte_of_the_standard(law: str, silence: int) -> None:
    assert G711(law, 8_000).pack(bytes(320)) == bytes([silence]) * 160


def test_no_samples_are_no_bytes() -> None:
    assert G711(MULAW, 8_000).pack(b"") == b""
