"""Speech by flite (github.com/festvox/flite, package `flite` of Debian), the voices slt and rms of CMU ARCTIC."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from csm_codec.resample import Pcm, resample
from recipes.builtin_voice.flite import VOICES

__all__ = ["SAMPLE_RATE_HZ", "VOICES", "speak"]

SAMPLE_RATE_HZ = 24000


def speak(text: str, voice: str) -> Pcm:
    """Mono at SAMPLE_RATE_HZ. flite itself speaks at 16 kHz. Raises CalledProcessError or FileNotFoundError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, str(path)], check=True, capture_output=True)
        pcm, rate_hz = soundfile.read(path, dtype="float32")
    return resample(np.asarray(pcm), rate_hz, SAMPLE_RATE_HZ)
