"""Teaches Mimi's decoder to say what the vocoder says of the same codes.

    python -m recipes.voice_in_the_box.codec.train_decoder build/voice --minutes 60

The codes say all that the vocoder's sound depends on, so this is regression: no adversary, no noise to invent. The
loss is the error of samples, high frequencies raised, and that of log spectra at several resolutions. Stops after the
minutes or at Ctrl-C; running it again goes on from the last checkpoint.
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
from torch.nn import functional as F

from recipes.voice_in_the_box.codec.network import new_mimi
from recipes.voice_in_the_box.codec.quantizer import Quantizer
from recipes.voice_in_the_box.codec.targets import Targets, open_targets
from recipes.voice_in_the_box.vocoder import FRAME_SIZE

GAIN = 10.0  # the network works at this times the sound's level
CLIP_FRAMES = 16  # 1.28 s
WARM_UP_FRAMES = 2  # of a clip that only fill its state and are not judged
BATCH = 16
STFT_SIZES = (256, 512, 1024, 2048)
EMPHASIS = 0.9


def main() -> None:
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    quantizer = Quantizer.load(arguments.folder / "quantizer.pt")
    targets = open_targets(arguments.folder, quantizer, "train")
    judged = open_targets(arguments.folder, quantizer, "heldout")
    trainer = Trainer(new_mimi(quantizer, seed=arguments.seed), arguments.folder / "decoder.pt", arguments)
    trainer.run(targets, judged)


class Trainer:
    """Steps, with the clock as the schedule: the rate falls by a cosine over the minutes asked for."""

    def __init__(self, model: MimiModel, path: Path, arguments: argparse.Namespace) -> None:
        self.model, self._path, self._arguments = model, path, arguments
        self.parts = decoder_parts(model)
        parameters = list(self.parts.parameters())
        self._optimizer = torch.optim.AdamW(parameters, lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._random = np.random.default_rng(arguments.seed)
        self.steps, self.seconds = 0, 0.0
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.parts.load_state_dict(state["parts"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.steps, self.seconds = state["steps"], state["seconds"]
            self._random = np.random.default_rng(arguments.seed + self.steps)

    def run(self, targets: Targets, judged: Targets) -> None:
        budget = 60 * self._arguments.minutes
        began, saved, running = time.monotonic() - self.seconds, time.monotonic(), []
        while (spent := time.monotonic() - began) < budget:
            running.append(self.step(targets, spent / budget))
            self.seconds = spent
            if self.steps % 50 == 0:
                self._log(np.mean(running, axis=0), judged if self.steps % 500 == 0 else None)
                running = []
            if time.monotonic() - saved > 120:
                self.save()
                saved = time.monotonic()
        self.save()

    def step(self, targets: Targets, progress: float) -> list[float]:
        warm_up = min(1.0, (self.steps + 1) / 100)
        for group in self._optimizer.param_groups:
            group["lr"] = self._arguments.rate * warm_up * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        codes, pcm = targets.batch(self._random, BATCH, CLIP_FRAMES)
        sizes = self._random.choice(STFT_SIZES, 2, replace=False).tolist()
        with torch.autocast("cpu", torch.bfloat16):
            said = decode(self.model, codes)[:, WARM_UP_FRAMES * FRAME_SIZE :]
        samples, spectra = losses(said.float(), pcm[:, WARM_UP_FRAMES * FRAME_SIZE :] * GAIN, sizes)
        self._optimizer.zero_grad(set_to_none=True)
        (samples + spectra).backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self._optimizer.step()
        self.steps += 1
        return [samples.item(), spectra.item()]

    def save(self) -> None:
        draft = self._path.with_suffix(".new")
        state = {"parts": self.parts.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save({**state, "steps": self.steps, "seconds": self.seconds}, draft)
        draft.rename(self._path)

    def _log(self, losses: np.ndarray, judged: Targets | None) -> None:
        row = {"steps": self.steps, "minutes": round(self.seconds / 60, 2)}
        row |= {"samples": round(float(losses[0]), 4), "spectra": round(float(losses[1]), 4)}
        if judged is not None:
            row["snr_db"] = round(self.snr_db(judged), 2)
        print(json.dumps(row), flush=True)
        with self._path.with_suffix(".jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    @torch.no_grad()
    def snr_db(self, judged: Targets) -> float:
        codes, pcm = judged.batch(np.random.default_rng(0), 32, CLIP_FRAMES)
        error = decode(self.model, codes) / GAIN - pcm
        return float(10 * torch.log10(pcm.square().sum() / error.square().sum()))


def decoder_parts(model: MimiModel) -> nn.ModuleDict:
    """All that lies between codebooks and samples."""
    return nn.ModuleDict(
        {
            "first_output": model.quantizer.rvq_first.output_proj,
            "rest_output": model.quantizer.rvq_rest.output_proj,
            "upsample": model.upsample,
            "decoder_transformer": model.decoder_transformer,
            "decoder": model.decoder,
        }
    )


def decode(model: MimiModel, codes: Tensor) -> Tensor:
    """(B, T, K) codes to (B, T * FRAME_SIZE) samples at GAIN times their level."""
    latent = model.upsample(model.quantizer.decode(codes.transpose(1, 2)))
    (latent,) = model.decoder_transformer(latent)
    return model.decoder(latent)[:, 0]


def losses(said: Tensor, wanted: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    said, wanted = _emphasized(said), _emphasized(wanted)
    samples = F.mse_loss(said, wanted) / 0.1
    spectra = sum((_log_spectrum(said, size) - _log_spectrum(wanted, size)).abs().mean() for size in sizes)
    return samples, torch.as_tensor(spectra) / len(sizes)


def _emphasized(pcm: Tensor) -> Tensor:
    return pcm[:, 1:] - EMPHASIS * pcm[:, :-1]


def _log_spectrum(pcm: Tensor, size: int) -> Tensor:
    spectrum = torch.stft(pcm, size, size // 4, window=torch.hann_window(size), return_complex=True)
    return torch.log(spectrum.abs() / size**0.5 + 1e-2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
