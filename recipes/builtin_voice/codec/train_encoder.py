"""Trains Mimi's encoder to give a recording the latents that the quantizer gives flite's tracks.

    python -m recipes.builtin_voice.codec.train_encoder build/voice --minutes 50

Regression to the latents, in their own metric, so that the nearest codes are near. Stops after the minutes or at
Ctrl-C; running it again goes on from the last checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch
from moshi.models.compression import MimiModel
from torch import Tensor, nn

from recipes.builtin_voice.codec.network import new_mimi
from recipes.builtin_voice.codec.quantizer import DIM, Quantizer
from recipes.builtin_voice.codec.recordings import Recording, clips, record
from recipes.builtin_voice.training import Schedule, Training, arguments

GAIN = 10.0  # sound comes at this times its level to the network
TEXTS = 800  # said by every voice, unless --texts says otherwise
CLIP_FRAMES = 16
WARM_UP_FRAMES = 2
BATCH = 16
FIRST_WEIGHT = 10.0  # of an error in the first latent, which has small numbers


def main() -> None:
    asked = arguments(__doc__, minutes=50, rate=2e-3, more={"texts": int})
    quantizer = Quantizer.load(asked.folder / "quantizer.pt")
    recordings = record("train", asked.texts or TEXTS, seed=21)
    held_out = record("held-out", 40, seed=22)
    model = new_mimi(quantizer, seed=asked.seed)
    schedule = Schedule(asked.minutes, asked.rate, warm_up_steps=100, log_every=50, judge_every=250)
    training = Training(encoder_parts(model), asked.folder / "encoder.pt", schedule, weight_decay=0.01)
    random = np.random.default_rng(asked.seed + training.steps)
    training.run(
        lambda: {"loss": batch_loss(model, recordings, quantizer, random)},
        lambda found: found["loss"],
        lambda: judge(model, held_out, quantizer),
    )


def batch_loss(
    model: MimiModel, recordings: list[Recording], quantizer: Quantizer, random: np.random.Generator
) -> Tensor:
    """Square error of the latents, on a new batch."""
    pcm, latents = clips(recordings, quantizer, random, size=BATCH, num_frames=CLIP_FRAMES)
    with torch.autocast("cpu", torch.bfloat16):
        found = encode(model, pcm)
    error = (found.float() - latents)[:, WARM_UP_FRAMES:].square()
    return FIRST_WEIGHT * error[..., :DIM].sum(dim=-1).mean() + error[..., DIM:].sum(dim=-1).mean()


@torch.no_grad()
def judge(model: MimiModel, held_out: list[Recording], quantizer: Quantizer) -> dict[str, float]:
    """On held-out recordings: how often the pitch is right, and what of the spectra is explained, 1 is all."""
    pcm, latents = clips(held_out, quantizer, np.random.default_rng(0), size=32, num_frames=CLIP_FRAMES)
    found = encode(model, pcm)[:, WARM_UP_FRAMES:].flatten(0, 1)
    latents = latents[:, WARM_UP_FRAMES:].flatten(0, 1)
    wanted, got = (quantizer.decode(quantizer.encode(x)) for x in (latents, found))
    error = (found[:, DIM:] - latents[:, DIM:]).square().sum() / latents[:, DIM:].var(dim=0).sum() / len(latents)
    return {
        "pitch_right": float((wanted.pulses == got.pulses).mean()),
        "pitch_near": float((abs(wanted.pulses - got.pulses) <= 1).mean()),
        "explained": 1 - float(error),
    }


def encoder_parts(model: MimiModel) -> nn.ModuleDict:
    """All modules between samples and latents."""
    assert model.encoder_transformer is not None
    return nn.ModuleDict(
        {
            "encoder": model.encoder,
            "encoder_transformer": model.encoder_transformer,
            "downsample": model.downsample,
        }
    )


def encode(model: MimiModel, pcm: Tensor) -> Tensor:
    """(B, T * FRAME_SIZE) samples to (B, T, 2 * DIM) latents; the rest of the width is not used."""
    assert model.encoder_transformer is not None
    (hidden,) = model.encoder_transformer(model.encoder(pcm[:, None] * GAIN))
    return model.downsample(hidden).transpose(1, 2)[..., : 2 * DIM]


if __name__ == "__main__":
    main()
