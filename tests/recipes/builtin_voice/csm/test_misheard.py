"""What a recording becomes keeps most pitches and half of the spectrum."""

from __future__ import annotations

import torch

from recipes.builtin_voice.codec.quantizer import DIM, train_quantizer
from recipes.builtin_voice.csm.misheard import PITCHES, EncoderErrors
from recipes.builtin_voice.vocoder import Frames


def test_misheard_frames_keep_most_pitches_and_half_of_the_spectrum(frames: Frames) -> None:
    torch.manual_seed(0)
    quantizer = train_quantizer(frames, num_codebooks=4, bins=96)
    latents = quantizer.latents(frames)
    exact = quantizer.encode(latents)
    codes = EncoderErrors(quantizer, torch.device("cpu"))(torch.from_numpy(exact)).numpy()
    said, heard = quantizer.decode(exact), quantizer.decode(codes)
    assert 1 - 1.5 * PITCHES < (heard.pulses == said.pulses).mean() < 1
    assert (abs(heard.pulses - said.pulses) <= 1).mean() > 0.97  # where there is no such pitch, the nearest is taken
    assert (codes[:, 1:] == exact[:, 1:]).mean() < 0.9
    error = (quantizer.latents(heard)[:, DIM:] - latents[:, DIM:]).square().sum() / latents[:, DIM:].square().sum()
    assert error < 0.75
