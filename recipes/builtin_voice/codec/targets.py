"""The decoder's training data: the vocoder's sound of each utterance's codes, one file a split. Gives random clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.tracks import Tracks, read_tracks
from recipes.builtin_voice.vocoder import FRAME_SIZE, synthesize

MOST_UTTERANCES = 12000


@dataclass(frozen=True)
class Targets:
    """codes: (N, K); pcm: (N, FRAME_SIZE) int16; starts: where utterances begin, and N."""

    codes: npt.NDArray[np.int64]
    pcm: npt.NDArray[np.int16]
    starts: npt.NDArray[np.int64]

    def batch(self, random: np.random.Generator, size: int, num_frames: int) -> tuple[Tensor, Tensor]:
        """(size, num_frames, K) codes and (size, num_frames * FRAME_SIZE) samples, from random places."""
        longest = np.flatnonzero(np.diff(self.starts) >= num_frames)
        chosen = random.choice(longest, size)
        first = self.starts[chosen] + random.integers(0, np.diff(self.starts)[chosen] - num_frames + 1)
        rows = first[:, None] + np.arange(num_frames)
        pcm = self.pcm[rows].reshape(size, num_frames * FRAME_SIZE).astype(np.float32) / 32768
        return torch.from_numpy(self.codes[rows]), torch.from_numpy(pcm)


def open_targets(folder: Path, quantizer: Quantizer, split: str) -> Targets:
    """Makes them from `tracks-SPLIT.npz` unless the folder holds them."""
    path = folder / f"targets-{split}.npz"
    if not path.exists():
        _make(read_tracks(folder / f"tracks-{split}.npz"), quantizer, path)
    with np.load(path) as file:
        return Targets(file["codes"].astype(np.int64), file["pcm"], file["starts"])


def _make(tracks: Tracks, quantizer: Quantizer, path: Path) -> None:
    codes, pcm = [], []
    for index in tqdm(range(min(len(tracks), MOST_UTTERANCES)), unit="utterance"):
        codes.append(quantizer.encode(quantizer.latents(tracks.of(index))))
        sound = synthesize(quantizer.decode(codes[-1]))
        pcm.append(np.rint(sound.clip(-1, 1) * 32767).astype(np.int16).reshape(-1, FRAME_SIZE))
    draft = path.with_suffix(".new.npz")
    starts = np.cumsum([0] + [len(one) for one in codes])
    np.savez(draft, codes=np.concatenate(codes).astype(np.int16), pcm=np.concatenate(pcm), starts=starts)
    draft.rename(path)
