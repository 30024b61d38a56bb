"""For tests of encoders: a sound like speech, cut into frames and encoded."""

from __future__ import annotations

import math
import os

import numpy as np

from services.gateway.audio.encoded import AudioEncoder, EncodedAudio

NATURAL_HZ, FRAME = 24_000, 1920


def speech_like(sample_count: int, rate_hz: int) -> np.ndarray:
    """A low voice with a gliding pitch: like speech for Opus, and broadband, so that a shift in time is seen."""
    t = np.arange(sample_count) / rate_hz
    phase = 2 * math.pi * (120 * t + 15 * np.sin(2 * math.pi * 1.5 * t))
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    return 5000 * voice * (0.55 + 0.45 * np.sin(2 * math.pi * 4 * t))


def frames(samples: np.ndarray) -> list[bytes]:
    content = samples.round().clip(-32_768, 32_767).astype("<i2").tobytes()
    return [content[at : at + 2 * FRAME] for at in range(0, len(content), 2 * FRAME)]


def encode(encoder: AudioEncoder, pieces: list[bytes]) -> list[EncodedAudio]:
    return [encoder.push(piece) for piece in pieces] + [encoder.finish()]


def thread_count() -> int:
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))
