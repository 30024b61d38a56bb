"""Sequences to train on: single turns and dialogues, as rows of text tokens and of codes, in the prompt's own layout.

Alone, speaker 0 is the first voice and speaker 1 the second. In a dialogue the voices may be swapped; what a speaker
says is then only learned from once he has been heard, so that the model learns to follow the context's voice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csm_engine.model.tokenizer import TextTokenizer
from recipes.builtin_voice.csm.tokenizer import VOCAB_SIZE
from recipes.builtin_voice.csm.turns import PHONE_PARTS, Ints, Turn, open_turns

DIALOGUE_SHARE = 0.35
TURNS = (2, 3, 4)
SWAPPED_SHARE = 0.5
HEARD_SHARE = 0.5  # of the turns of a dialogue: what the encoder hears of a recording; nothing is learned from them


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence. tokens: (T, K + 1); is_audio, is_learned: (T,); phones: (T, len(PHONE_PARTS))."""

    tokens: Ints
    is_audio: npt.NDArray[np.bool_]
    is_learned: npt.NDArray[np.bool_]  # frames that count in the loss
    phones: Ints

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded to one length: tokens (B, T, K + 1) and so on; padding is text that nothing is learned from."""

    tokens: Tensor
    is_audio: Tensor
    is_learned: Tensor
    phones: Tensor


class TrainingCorpus:
    """Turns by voice, and batches of sequences made of them."""

    def __init__(self, turns: list[Turn], tokenizer: TextTokenizer, phone_names: list[str]) -> None:
        self._tokenizer = tokenizer
        self._by_voice = [[turn for turn in turns if turn.voice == voice] for voice in range(2)]
        self.num_codebooks = turns[0].codes.shape[1]
        self.phone_names = phone_names

    @classmethod
    def open(cls, folder: Path, split: str, phone_names: list[str] | None = None) -> TrainingCorpus:
        """As open_turns."""
        turns, names = open_turns(folder, split, phone_names)
        return cls(turns, TextTokenizer(folder / "tokenizer.json", VOCAB_SIZE), names)

    def batches(
        self, random: np.random.Generator, *, positions: int, dialogue_share: float = DIALOGUE_SHARE, pool: int = 512
    ) -> Iterator[Batch]:
        """Once through a pool of new sequences; rows of like length together, about so many positions a batch."""
        rows = sorted((self._sequence(random, dialogue_share) for _ in range(pool)), key=len)
        groups: list[list[Row]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row) > positions:
                groups.append([])
            groups[-1].append(row)
        for index in random.permutation(len(groups)):
            yield _padded(groups[index])

    def _sequence(self, random: np.random.Generator, dialogue_share: float) -> Row:
        if random.random() >= dialogue_share:
            voice = int(random.integers(2))
            return self._joined([(self._turn(random, voice), voice, True)])
        swapped = random.random() < SWAPPED_SHARE
        known: set[int] = set()
        parts = []
        for _ in range(int(random.choice(TURNS))):
            speaker = int(random.integers(2))
            voice = 1 - speaker if swapped else speaker
            parts.append((self._turn(random, voice), speaker, not swapped or speaker in known))
            known.add(speaker)
        for index, (turn, speaker, _) in enumerate(parts[:-1]):
            if random.random() < HEARD_SHARE:
                parts[index] = (replace(turn, codes=turn.heard), speaker, False)
        return self._joined(parts)

    def _turn(self, random: np.random.Generator, voice: int) -> Turn:
        return self._by_voice[voice][int(random.integers(len(self._by_voice[voice])))]

    def _joined(self, parts: list[tuple[Turn, int, bool]]) -> Row:
        rows = [self._row(turn, speaker, learned) for turn, speaker, learned in parts]
        return Row(
            np.concatenate([row.tokens for row in rows]),
            np.concatenate([row.is_audio for row in rows]),
            np.concatenate([row.is_learned for row in rows]),
            np.concatenate([row.phones for row in rows]),
        )

    def _row(self, turn: Turn, speaker: int, learned: bool) -> Row:
        """Text, frames, and the all-zero frame that ends them."""
        ids = self._tokenizer.encode(speaker, turn.text)
        length = len(ids) + len(turn.codes) + 1
        tokens = np.zeros((length, self.num_codebooks + 1), dtype=np.int64)
        tokens[: len(ids), -1] = ids
        tokens[len(ids) : -1, :-1] = turn.codes
        is_audio = np.arange(length) >= len(ids)
        phones = np.zeros((length, len(PHONE_PARTS)), dtype=np.int64)
        phones[len(ids) : -1] = turn.phones
        return Row(tokens, is_audio, is_audio & learned, phones)


def _padded(rows: list[Row]) -> Batch:
    longest = max(len(row) for row in rows)

    def stacked(name: str) -> Tensor:
        arrays = [getattr(row, name) for row in rows]
        out = np.zeros((len(rows), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
        for index, array in enumerate(arrays):
            out[index, : len(array)] = array
        return torch.from_numpy(out)

    return Batch(stacked("tokens"), stacked("is_audio"), stacked("is_learned"), stacked("phones"))
