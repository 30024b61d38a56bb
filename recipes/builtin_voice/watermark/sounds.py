"""Audio other than speech to put a mark into: noises, chords, and the sound of untrained bundles.

Mono float32 at 24 kHz, every sound from its own random numbers. It knows no speech and no watermark.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from csm_codec.mimi.loader import load_mimi
from csm_codec.resample import Pcm
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ
from tests.support.tiny.mimi import write_tiny_mimi

LOUDNESS = 0.07  # rms


def coloured_noise(random: np.random.Generator, seconds: float) -> Pcm:
    """Noises from white to brown, steady or slowly swelling."""
    count = round(seconds * SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequencies = np.arange(1, len(spectrum) + 1) / len(spectrum)
    noise = np.fft.irfft(spectrum * frequencies ** -random.uniform(0, 1), n=count)
    swell = 1 + random.uniform(0, 0.9) * np.sin(2 * np.pi * random.uniform(0.3, 4) * _times(count))
    return _loud(noise * swell)


def chords(random: np.random.Generator, seconds: float) -> Pcm:
    """Plucked harmonic tones, a few at a time, with a little noise."""
    count = round(seconds * SAMPLE_RATE_HZ)
    sound = 0.005 * random.standard_normal(count)
    for _ in range(round(3 * seconds)):
        start = int(random.integers(count))
        time = _times(count - start)
        pitch_hz = 110 * 2 ** (random.integers(36) / 12)
        harmonics = np.arange(1, 1 + random.integers(3, 12))
        tones = np.sin(2 * np.pi * pitch_hz * harmonics[:, None] * time) / harmonics[:, None] ** random.uniform(0.7, 2)
        sound[start:] += tones.sum(axis=0) * np.exp(-time * random.uniform(1, 6)) * random.uniform(0.3, 1)
    return _loud(sound)


def untrained_speech(seed: int, clips: int, seconds: float) -> list[Pcm]:
    """Random codes decoded by tiny Mimis, a different one for each clip."""
    sounds = []
    for clip_seed in range(seed, seed + clips):
        with tempfile.TemporaryDirectory() as folder:
            write_tiny_mimi(Path(folder), clip_seed)
            mimi = load_mimi(Path(folder))
        identity = mimi.identity
        frames = round(seconds * SAMPLE_RATE_HZ / identity.frame_sample_count)
        generator = torch.Generator().manual_seed(clip_seed)
        codes = torch.randint(identity.codebook_size, (1, identity.codebook_count, frames), generator=generator)
        with torch.inference_mode():
            sounds.append(mimi.model.decode(codes)[0, 0].numpy())
    return sounds


def _times(count: int) -> np.ndarray:
    return np.arange(count) / SAMPLE_RATE_HZ


def _loud(sound: np.ndarray) -> Pcm:
    return (sound * LOUDNESS / np.sqrt(np.mean(sound**2))).astype(np.float32)
