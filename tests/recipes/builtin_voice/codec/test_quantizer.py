"""The codebooks: the pitch is exact, the spectra are near, and Mimi's own quantizer makes the same codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.builtin_voice.codec.network import new_mimi
from recipes.builtin_voice.codec.quantizer import DIM, Quantizer, train_quantizer
from recipes.builtin_voice.vocoder import Frames


@pytest.fixture(scope="module")
def quantizer(frames: Frames) -> Quantizer:
    return train_quantizer(frames, num_codebooks=4, bins=96)


def test_codes_say_the_pitch_exactly(quantizer: Quantizer, frames: Frames) -> None:
    heard = quantizer.decode(quantizer.encode(quantizer.latents(frames)))
    np.testing.assert_array_equal(heard.pulses, frames.pulses)
    np.testing.assert_array_equal(heard.glide, frames.glide)


def test_every_codebook_brings_the_spectra_nearer(quantizer: Quantizer, frames: Frames) -> None:
    spectral = quantizer.latents(frames)[:, DIM:]
    codes = quantizer.encode(quantizer.latents(frames))
    errors, found = [], torch.zeros_like(spectral)
    for index, codebook in enumerate(quantizer.rest, start=1):
        found = found + codebook[codes[:, index]]
        errors.append(float((spectral - found).square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_end_of_speech_is_no_frame_of_speech(quantizer: Quantizer, frames: Frames) -> None:
    assert quantizer.encode(quantizer.latents(frames)).any(axis=1).all()


def test_codebooks_survive_a_file(quantizer: Quantizer, tmp_path: Path) -> None:
    quantizer.save(tmp_path / "quantizer.pt")
    read = Quantizer.load(tmp_path / "quantizer.pt")
    assert all(torch.equal(value, getattr(read, name)) for name, value in vars(quantizer).items())


def test_mimi_quantizes_the_latents_alike(quantizer: Quantizer, frames: Frames) -> None:
    mimi, latents = new_mimi(quantizer), quantizer.latents(frames)
    encoder_output = torch.cat([latents, torch.randn(len(frames), mimi.dimension - 2 * DIM)], dim=1)
    codes = mimi.quantizer.encode(encoder_output.T[None])[0].T
    np.testing.assert_array_equal(codes.numpy(), quantizer.encode(latents))
