"""Recordings as whole WAV files."""

from __future__ import annotations

import io
import wave


def wav_of(samples: bytes, rate_hz: int = 24_000) -> bytes:
    """A WAV file. samples: 16-bit, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate_hz, 0, "NONE", ""))
        writer.writeframes(samples)
    return file.getvalue()
