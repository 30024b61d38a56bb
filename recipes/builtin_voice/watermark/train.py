"""Trains the small SilentCipher; run again with the same --out, it goes on where it was stopped.

    python -m recipes.builtin_voice.watermark.train --minutes 35 --out build/builtin_voice/watermark

The networks learn together: the embedder writes a random symbol into each frame of a crop, the crop is distorted and
cut off the frame grid, and the message decoder must name the symbols. The strength of the mark is no part of the loss:
the scheme's formula fixes it, loud at first and down to the wanted ratio within the first part of the time. The last
part is done with the batch statistics frozen, as they are in service.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from csm_codec.watermark.networks.hparams import read_hparams
from csm_codec.watermark.networks.silentcipher import MESSAGE_DIM, SilentCipher, build_silentcipher
from csm_codec.watermark.stream.level import FIRST_FRAMES, NOMINAL_POWER, nominal_magnitude
from recipes.builtin_voice.watermark.channel import distort
from recipes.builtin_voice.watermark.corpus import Corpus, open_corpus
from recipes.builtin_voice.watermark.embedding import TrainingEmbedder
from tests.support.tiny.silentcipher import tiny_hparams

SIZES = {"enc_n_layers": 2, "dec_c_n_layers": 2, "dec_m_channel_dim": 32, "dec_m_num_layers": 6}
KIND_CHANCES = {"speech": 0.55, "noise": 0.1, "chords": 0.07, "untrained": 0.28}
ROWS, FRAMES = 8, 32  # of a batch
FIRST_SDR_DB = 8.0
FALLING = 0.45  # share of the time in which the strength falls to the wanted one
FROZEN = 0.75  # share of the time after which batch statistics stay
LEARNING_RATE = 2e-3
SAVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch, and the running level of the streaming embedder in it."""

    pcm: Tensor  # (rows, (frames + 1) * hop)
    gain: Tensor  # (rows, frames)
    magnitude: Tensor  # (rows, frames)


def cut_crops(corpus: Corpus, random: np.random.Generator, n_fft: int, lag: int) -> Crops:
    """Crops from anywhere, at any loudness. The level is that of the frames up to `lag` after each."""
    hop, length = n_fft // 2, (FRAMES + 1) * n_fft // 2
    pcm, magnitude = np.zeros((ROWS, length), np.float32), np.zeros((ROWS, FRAMES), np.float32)
    kinds = random.choice(list(KIND_CHANCES), size=ROWS, p=list(KIND_CHANCES.values()))
    for row, kind in enumerate(kinds):
        clips = corpus.clips[kind]
        clip = clips[random.integers(len(clips))]
        clip = clip * np.float32(min(10 ** (random.uniform(-14, 8) / 20), 0.99 / np.abs(clip).max()))
        start = int(random.integers(len(clip) - length + 1))
        pcm[row] = clip[start : start + length]
        heard = np.concatenate(([0.0], np.cumsum(np.square(clip, dtype=np.float64))))
        ends = np.minimum(start + (np.arange(FRAMES) + lag + 1) * hop, len(clip))
        frames = ends / hop
        missing = np.maximum(0, FIRST_FRAMES - frames)
        power = (heard[ends] / hop + missing * NOMINAL_POWER) / (frames + missing)
        magnitude[row] = np.sqrt(power / NOMINAL_POWER) * nominal_magnitude(n_fft)
    return Crops(
        torch.from_numpy(pcm),
        torch.from_numpy(nominal_magnitude(n_fft) / magnitude),
        torch.from_numpy(magnitude),
    )


def frame_offset(random: np.random.Generator, hop: int) -> int:
    """By how many samples a frame begins after the embedder's: mostly few, at most half a hop."""
    offset = int(random.normal(0, hop / 12)) if random.random() < 0.85 else int(random.uniform(-hop / 4, hop / 4))
    return max(-hop // 2, min(hop // 2, offset))


def read_off_grid(silentcipher: SilentCipher, pcm: Tensor, symbols: Tensor, random: np.random.Generator) -> Tensor:
    """Loss of the message decoder on frames that begin up to a quarter of a hop away from the embedder's.

    pcm: (rows, (frames - 1) * hop), beginning with the second frame. Returns (1,) loss; accuracy in the second place.
    """
    hparams = silentcipher.hparams
    hop = hparams.hop
    heard = pcm[:, hop + frame_offset(random, hop) :]
    loudness = torch.as_tensor(10 ** (random.uniform(-3, 3, size=(len(pcm), 1)) / 20), dtype=pcm.dtype)
    heard = (
        heard * loudness * (NOMINAL_POWER / heard.detach().square().mean(dim=1, keepdim=True).clamp_min(1e-9)).sqrt()
    )
    frames = heard.unfold(1, hparams.n_fft, hop) * torch.hann_window(hparams.n_fft)
    carrier = torch.fft.rfft(frames)[:, :, : hparams.band].abs().transpose(1, 2)[:, None]
    logits = silentcipher.message_decoder(carrier.contiguous(memory_format=torch.channels_last))[:, 0]
    wanted = symbols[:, 2 : 2 + logits.shape[2]]
    loss = F.cross_entropy(logits, wanted)
    accuracy = (logits.detach().argmax(dim=1) == wanted).float().mean()
    return torch.stack((loss, accuracy))


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As a bundle holds it: matrices as float16; the statistics stay as they are."""
    return {name: value.contiguous().half() if value.dim() > 1 else value for name, value in state.items()}


class Trainer:
    """Networks, optimiser and the time that went into them; all random numbers follow from seed and step."""

    def __init__(self, folder: Path, sdr_db: float, seed: int) -> None:
        self._folder, self._sdr_db, self._seed = folder, sdr_db, seed
        weights = folder / "silentcipher"
        weights.mkdir(parents=True, exist_ok=True)
        hparams = tiny_hparams(band=128) | SIZES | {"message_sdr": sdr_db}
        (weights / "hparams.yaml").write_text(yaml.safe_dump(hparams, sort_keys=False))
        torch.manual_seed(seed)
        self.silentcipher = build_silentcipher(read_hparams(weights / "hparams.yaml"))
        networks: Any = nn.ModuleDict(
            {
                "enc_c": self.silentcipher.carrier_encoder,
                "dec_c": self.silentcipher.carrier_decoder,
                "dec_m_0": self.silentcipher.message_decoder,
            }
        )  # Any: torch's types of a module's `to` leave memory_format out
        self._networks: nn.ModuleDict = networks.to(memory_format=torch.channels_last)
        self._embedder = TrainingEmbedder(self.silentcipher)
        self._optimizer = torch.optim.Adam(self._networks.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0
        if (folder / "state.pt").exists():
            state = torch.load(folder / "state.pt", weights_only=True)
            self._networks.load_state_dict(state["networks"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def train_step(self, corpus: Corpus, progress: float) -> dict[str, float]:
        """progress: share of the time that has passed."""
        random = np.random.default_rng((self._seed, self.step))
        hparams = self.silentcipher.hparams
        self._networks.train(progress < FROZEN)
        falling = min(1.0, progress / FALLING)
        sdr_db = FIRST_SDR_DB + (self._sdr_db - FIRST_SDR_DB) * falling
        for group in self._optimizer.param_groups:
            group["lr"] = (
                LEARNING_RATE * min(1, (self.step + 1) / 50) * (0.02 + 0.98 * math.cos(math.pi / 2 * progress) ** 2)
            )
        crops = cut_crops(corpus, random, hparams.n_fft, self._embedder.lag)
        symbols = torch.from_numpy(random.integers(MESSAGE_DIM, size=(ROWS, FRAMES)))
        mark = self._embedder.mark(crops.pcm, symbols, crops.gain, crops.magnitude, sdr_db)
        audio = crops.pcm[:, hparams.hop : -hparams.hop]
        heard = distort(audio + mark, random, severity=falling)
        loss, accuracy = read_off_grid(self.silentcipher, heard, symbols, random)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._networks.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        reached = 10 * torch.log10(audio.square().sum() / mark.detach().square().sum())
        return {"loss": loss.item(), "accuracy": accuracy.item(), "sdr_db": sdr_db, "reached_sdr_db": reached.item()}

    def save(self) -> None:
        """The whole state, and the three checkpoints in the published folder layout."""
        draft = self._folder / "state.new"
        torch.save(
            {
                "networks": self._networks.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
            },
            draft,
        )
        draft.rename(self._folder / "state.pt")
        for name, module in self._networks.items():
            state = {key: value.contiguous() for key, value in module.state_dict().items()}
            torch.save(state, self._folder / "silentcipher" / f"{name}.ckpt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/builtin_voice/watermark"))
    parser.add_argument("--minutes", type=float, default=35.0, help="of training, over all runs; data comes before")
    parser.add_argument("--sdr", type=float, default=30.0, help="signal-to-distortion ratio to reach, in dB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speech-clips", type=int, default=700)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    corpus = open_corpus(
        arguments.out / "clips", "train", speech_clips=arguments.speech_clips, other_clips=arguments.speech_clips // 10
    )
    trainer = Trainer(arguments.out, arguments.sdr, arguments.seed)
    budget = 60 * arguments.minutes
    saved = trainer.seconds
    with (arguments.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while trainer.seconds < budget:
            began = time.monotonic()
            figures = trainer.train_step(corpus, trainer.seconds / budget)
            trainer.seconds += time.monotonic() - began
            log.writerow([trainer.step, f"{trainer.seconds:.1f}", *(f"{figure:.4f}" for figure in figures.values())])
            if trainer.step % 20 == 0:
                file.flush()
                text = "  ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
                print(f"step {trainer.step}  {trainer.seconds / 60:.1f} min  {text}", file=sys.stderr, flush=True)
            if trainer.seconds - saved > SAVE_SECONDS:
                trainer.save()
                saved = trainer.seconds
    trainer.save()


if __name__ == "__main__":
    main()
