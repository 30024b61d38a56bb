"""Speech as the tests of images and of a cluster hand it to a search for the mark."""

from __future__ import annotations

import io
import wave

from csm_client import Speech


def wav(speech: Speech) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, speech.sample_rate_hz, 0, "NONE", ""))
        writer.writeframes(speech.samples)
    return file.getvalue()
