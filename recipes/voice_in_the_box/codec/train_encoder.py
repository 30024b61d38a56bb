"""Teaches Mimi's encoder to say of a recording what the quantizer says of flite's tracks.

    python -m recipes.voice_in_the_box.codec.train_encoder build/voice --minutes 20

Regression to the latents, in their own metric, so that the nearest codes are near. Stops after the minutes or at
Ctrl-C; running it again goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from moshi.models.compression import MimiModel
from torch import Tensor, nn

from recipes.voice_in_the_box.codec.network import new_mimi
from recipes.voice_in_the_box.codec.quantizer import DIM, Quantizer
from recipes.voice_in_the_box.codec.recordings import Recording, clips, record

GAIN = 10.0  # sound comes at this times its level to the network
CLIP_FRAMES = 16
WARM_UP_FRAMES = 2
BATCH = 16
FIRST_WEIGHT = 10.0  # of an error in the first latent, whose numbers are small


def main() -> None:
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    quantizer = Quantizer.load(arguments.folder / "quantizer.pt")
    recordings = record("train", arguments.texts, seed=21)
    judged = record("held-out", 40, seed=22)
    trainer = Trainer(new_mimi(quantizer, seed=arguments.seed), quantizer, arguments.folder / "encoder.pt", arguments)
    trainer.run(recordings, judged)


class Trainer:
    """Steps, with the clock as the schedule: the rate falls by a cosine over the minutes asked for."""

    def __init__(self, model: MimiModel, quantizer: Quantizer, path: Path, arguments: argparse.Namespace) -> None:
        self.model, self._quantizer, self._path, self._arguments = model, quantizer, path, arguments
        self.parts = encoder_parts(model)
        self._optimizer = torch.optim.AdamW(
            self.parts.parameters(), lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.steps, self.seconds = 0, 0.0
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.parts.load_state_dict(state["parts"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.steps, self.seconds = state["steps"], state["seconds"]
        self._random = np.random.default_rng(arguments.seed + self.steps)

    def run(self, recordings: list[Recording], judged: list[Recording]) -> None:
        budget = 60 * self._arguments.minutes
        began, saved, running = time.monotonic() - self.seconds, time.monotonic(), []
        while (spent := time.monotonic() - began) < budget:
            running.append(self.step(recordings, spent / budget))
            self.seconds = spent
            if self.steps % 50 == 0:
                self._log({"loss": float(np.mean(running))})
                running = []
            if self.steps % 250 == 0:
                self._log(self.judge(judged))
            if time.monotonic() - saved > 120:
                self.save()
                saved = time.monotonic()
        self._log(self.judge(judged))
        self.save()

    def step(self, recordings: list[Recording], progress: float) -> float:
        warm_up = min(1.0, (self.steps + 1) / 100)
        for group in self._optimizer.param_groups:
            group["lr"] = self._arguments.rate * warm_up * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        pcm, latents = clips(recordings, self._quantizer, self._random, size=BATCH, num_frames=CLIP_FRAMES)
        with torch.autocast("cpu", torch.bfloat16):
            found = encode(self.model, pcm)
        loss = _loss(found.float()[:, WARM_UP_FRAMES:], latents[:, WARM_UP_FRAMES:])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self._optimizer.step()
        self.steps += 1
        return loss.item()

    @torch.no_grad()
    def judge(self, judged: list[Recording]) -> dict[str, float]:
        """On held-out recordings: how often the pitch is right, and what of the spectra is explained, 1 is all."""
        random = np.random.default_rng(0)
        pcm, latents = clips(judged, self._quantizer, random, size=32, num_frames=CLIP_FRAMES)
        found = encode(self.model, pcm)[:, WARM_UP_FRAMES:].flatten(0, 1)
        latents = latents[:, WARM_UP_FRAMES:].flatten(0, 1)
        wanted, got = (self._quantizer.decode(self._quantizer.encode(x)) for x in (latents, found))
        error = (found[:, DIM:] - latents[:, DIM:]).square().sum() / latents[:, DIM:].var(dim=0).sum() / len(latents)
        return {
            "pitch_right": round(float((wanted.pulses == got.pulses).mean()), 4),
            "pitch_near": round(float((abs(wanted.pulses - got.pulses) <= 1).mean()), 4),
            "explained": round(1 - float(error), 4),
        }

    def save(self) -> None:
        draft = self._path.with_suffix(".new")
        state = {"parts": self.parts.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save({**state, "steps": self.steps, "seconds": self.seconds}, draft)
        draft.rename(self._path)

    def _log(self, figures: dict[str, float]) -> None:
        row = {"steps": self.steps, "minutes": round(self.seconds / 60, 2), **figures}
        print(json.dumps(row), flush=True)
        with self._path.with_suffix(".jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def encoder_parts(model: MimiModel) -> nn.ModuleDict:
    """All that lies between samples and latents."""
    return nn.ModuleDict(
        {
            "encoder": model.encoder,
            "encoder_transformer": model.encoder_transformer,
            "downsample": model.downsample,
        }
    )


def encode(model: MimiModel, pcm: Tensor) -> Tensor:
    """(B, T * FRAME_SIZE) samples to (B, T, 2 * DIM) latents; the rest of the width is not used."""
    (hidden,) = model.encoder_transformer(model.encoder(pcm[:, None] * GAIN))
    return model.downsample(hidden).transpose(1, 2)[..., : 2 * DIM]


def _loss(found: Tensor, wanted: Tensor) -> Tensor:
    error = (found - wanted).square()
    return FIRST_WEIGHT * error[..., :DIM].sum(dim=-1).mean() + error[..., DIM:].sum(dim=-1).mean()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--texts", type=int, default=800)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
