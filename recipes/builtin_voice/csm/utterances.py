"""The utterances of a corpus on the device: their symbols, codes and phones, concatenated.

Files that appear while a training runs are taken in at its next look. What is handed out are numbers of utterances.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csm_engine.model.tokenizer import BOS, EOS
from recipes.builtin_voice.csm.tokenizer import IDS
from recipes.builtin_voice.csm.turns import PHONE_PARTS, read_turns, turn_files

SPEAKER_AT = 1  # index of the speaker's token among those of a text


class Utterances:
    """Flat tensors on the device; starts and voices as arrays, since batches are planned on the CPU.

    text: (text positions,) ids with BOS, any speaker's token, symbols, EOS; codes: (frames, K); phones:
    (frames, len(PHONE_PARTS)).
    """

    def __init__(self, folder: Path, split: str, device: torch.device) -> None:
        """Raises FileNotFoundError where there is no file of the split yet."""
        self._folder, self._split, self._device = folder, split, device
        self._read: set[Path] = set()
        self.voices = np.zeros(0, np.uint8)
        self.text_starts, self.frame_starts = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.text = torch.zeros(0, dtype=torch.int16, device=device)
        self.codes = torch.zeros(0, 0, dtype=torch.int16, device=device)
        self.phones = torch.zeros(0, len(PHONE_PARTS), dtype=torch.uint8, device=device)
        if not self.look():
            raise FileNotFoundError(f"{folder} has no turns-{split}-*.npz; recipes.builtin_voice.csm.turns makes them")

    def __len__(self) -> int:
        return len(self.voices)

    @property
    def text_lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.text_starts)

    @property
    def num_frames(self) -> npt.NDArray[np.int64]:
        return np.diff(self.frame_starts)

    def look(self, at_most: int = 1000) -> int:
        """Loads new files. Returns how many."""
        new = [path for path in turn_files(self._folder, self._split) if path not in self._read][:at_most]
        if not new:
            return 0
        texts, codes, phones, voices, frames = [], [], [], [], []
        for path in new:
            turns = read_turns(path)
            texts += [_ids(symbols) for symbols in turns.symbols]
            codes.append(turns.codes)
            phones.append(turns.phones)
            voices.append(turns.voices)
            frames.append(np.diff(turns.starts))
            self._read.add(path)
        self.voices = np.concatenate([self.voices, *voices])
        self.text_starts = _extended(self.text_starts, [len(ids) for ids in texts])
        self.frame_starts = _extended(self.frame_starts, np.concatenate(frames))
        self.text = self._appended(self.text, np.array([id_ for ids in texts for id_ in ids], np.int16))
        new_codes = np.concatenate(codes)
        self.codes = self._appended(self.codes.view(-1, new_codes.shape[1]), new_codes)
        self.phones = self._appended(self.phones, np.concatenate(phones))
        return len(new)

    def _appended(self, known: Tensor, new: npt.NDArray[np.generic]) -> Tensor:
        return torch.cat([known, torch.from_numpy(new).to(self._device)])


def _ids(symbols: str) -> list[int]:
    return [IDS[BOS], IDS["[0]"], *(IDS[symbol] for symbol in symbols.split()), IDS[EOS]]


def _extended(starts: npt.NDArray[np.int64], lengths: list[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([starts, starts[-1] + np.cumsum(lengths)])
