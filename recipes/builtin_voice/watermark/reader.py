"""Trains the message decoder alone, on marks of trained networks. The program is train_reader.py.

The embedder stays as it is, so the audio that a service makes does not change by a sample. Batch statistics are frozen.
The learning rate falls along a cosine to zero over the steps. All random numbers follow from the seed and the step: on
one machine a resumed run makes the same weights as an uninterrupted one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csm_codec.watermark.networks.silentcipher import load_silentcipher
from csm_codec.watermark.stream.level import NOMINAL_POWER
from recipes.builtin_voice.watermark.channel import NOISY, distort
from recipes.builtin_voice.watermark.corpus import Corpus
from recipes.builtin_voice.watermark.marked import Crops, Marked, cut_crops, mark_clips
from recipes.builtin_voice.watermark.train import rounded

KIND_CHANCES = {
    "slt's voice": 0.3,
    "rms's voice": 0.17,
    "slt's vocoder": 0.06,
    "rms's vocoder": 0.04,
    "speech": 0.18,
    "noise": 0.08,
    "chords": 0.06,
    "untrained": 0.11,
}
GROUPS, ROWS, FRAMES = 4, 2, 64  # of a batch: groups of rows, each distorted in its own way
CLIPS = 96  # that are marked at a time
CLIP_STEPS = 100  # after which others are marked
LEARNING_RATE = 7e-4
WARM_UP = 50  # steps
LOUDNESS_DB = 3.0  # error of the estimated level


class ReaderTrainer:
    """The networks, the optimiser of the message decoder, and the steps that were made."""

    def __init__(
        self,
        folder: Path,
        start: Path,
        corpus: Corpus,
        *,
        steps: int,
        seed: int,
        chances: Mapping[str, float] = KIND_CHANCES,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """start: a folder of SilentCipher. dtype: of the decoder's products; its weights are float32."""
        self._folder, self._corpus, self._chances = folder, corpus, chances
        self._steps, self._seed, self._dtype = steps, seed, dtype
        self._weights = folder / "silentcipher"
        self._weights.mkdir(parents=True, exist_ok=True)
        for name in ("hparams.yaml", "enc_c.ckpt", "dec_c.ckpt"):
            shutil.copyfile(start / name, self._weights / name)
        self.silentcipher = load_silentcipher(start)
        self._decoder: nn.Module = self.silentcipher.message_decoder.requires_grad_(True)
        self._decoder.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(self._decoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
        self._marked: list[Marked] = []
        self._marked_for = -1
        self.step = 0
        if (folder / "state.pt").exists():
            state = torch.load(folder / "state.pt", weights_only=True)
            self._decoder.load_state_dict(state["decoder"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    @property
    def done(self) -> bool:
        return self.step >= self._steps

    def train_step(self) -> dict[str, float]:
        """loss and accuracy of one batch, by frame."""
        random = np.random.default_rng((self._seed, 1, self.step))
        for group in self._optimizer.param_groups:
            group["lr"] = (
                LEARNING_RATE
                * min(1, (self.step + 1) / WARM_UP)
                * math.cos(math.pi / 2 * min(1, self.step / self._steps)) ** 2
            )
        marked = self._clips()
        groups = [self._heard(marked, random) for _ in range(GROUPS)]
        heard, symbols = (torch.cat(parts) for parts in zip(*groups, strict=True))
        with torch.autocast("cpu", torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            logits = self._decoder(heard.contiguous(memory_format=torch.channels_last))[:, 0].float()
        loss = F.cross_entropy(logits, symbols)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._decoder.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        accuracy = (logits.detach().argmax(dim=1) == symbols).float().mean()
        return {"loss": loss.item(), "accuracy": accuracy.item()}

    def _clips(self) -> list[Marked]:
        """The marked clips for this step and its neighbours."""
        epoch = self.step // CLIP_STEPS
        if self._marked_for != epoch:
            random = np.random.default_rng((self._seed, 2, epoch))
            least = (FRAMES + 3) * self.silentcipher.hparams.hop
            self._marked = mark_clips(self.silentcipher, self._corpus, self._chances, random, count=CLIPS, least=least)
            self._marked_for = epoch
        return self._marked

    def _heard(self, marked: list[Marked], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What the decoder gets of a group of crops, (rows, 1, band, frames), and the symbols, (rows, frames)."""
        hparams = self.silentcipher.hparams
        crops = cut_crops(marked, random, rows=ROWS, frames=FRAMES, hop=hparams.hop)
        pcm = distort(crops.pcm, random, severity=1.0, mixture=NOISY, power=crops.power)
        pcm = pcm * _reading_gain(crops, pcm, random)
        frames = pcm.unfold(1, hparams.n_fft, hparams.hop) * torch.hann_window(hparams.n_fft)
        return torch.fft.rfft(frames)[:, :, : hparams.band].abs().transpose(1, 2)[:, None], crops.symbols

    def save(self) -> None:
        """The whole state, and a folder of SilentCipher with the decoder as a bundle holds it."""
        draft = self._folder / "state.new"
        torch.save(
            {"decoder": self._decoder.state_dict(), "optimizer": self._optimizer.state_dict(), "step": self.step},
            draft,
        )
        draft.rename(self._folder / "state.pt")
        torch.save(rounded(self._decoder.state_dict()), self._weights / "dec_m_0.ckpt")


def _reading_gain(crops: Crops, heard: Tensor, random: np.random.Generator) -> Tensor:
    """(rows, 1): to nominal loudness, by the power of the whole clip or of what is near, as the two searches do it."""
    near = heard.square().mean(dim=1, keepdim=True)
    by_clip = torch.from_numpy(random.random((len(near), 1)) < 0.5)
    power = torch.where(by_clip, crops.power, near).clamp_min(1e-9)
    wrong_db = torch.as_tensor(random.uniform(-LOUDNESS_DB, LOUDNESS_DB, size=(len(near), 1)), dtype=heard.dtype)
    return (NOMINAL_POWER / power).sqrt() * 10 ** (wrong_db / 20)
