"""The letter-to-sound model, for words that are not in the dictionary: a joint n-gram model with a beam search.

A word is a sequence of graphones: a letter with no, one or two phones. The model gives the probability of a graphone
after the previous ones. An unseen n-gram backs off to a shorter context. Every number is an integer, so that the same
letters give the same phones on every machine. Trained by recipes/english_phonemes from CMUdict.

File, compressed with lzma: a line of JSON (graphones, n-grams of each order), then for each order the
differences of the sorted keys as variable-length integers, log probabilities and back-off weights.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import numpy.typing as npt

START, END = 0, 1  # the graphones before and after a word
STEP = 1 / 16  # nats: the unit of log probabilities and back-off weights
BEAM = 12  # hypotheses after each letter

Integers = npt.NDArray[np.int64]


class LetterModel:
    """Predicts a word's phones from its letters, a to z only."""

    def __init__(self, path: Path) -> None:
        """Loads the model. Raises: OSError or ValueError if the file cannot be used."""
        header, _, body = lzma.decompress(path.read_bytes()).partition(b"\n")
        described = json.loads(header)
        graphones = [(letter, tuple(phones)) for letter, phones in described["graphones"]]
        self._phones = [phones for _, phones in graphones]
        self._size = len(graphones)
        self._of_letter: dict[str, Integers] = {}
        for letter in sorted({letter for letter, _ in graphones[2:]}):
            self._of_letter[letter] = np.array([i for i, g in enumerate(graphones) if g[0] == letter and i > END])
        self._keys: list[Integers] = []  # of each order: index of the context among its order * graphones + graphone
        self._costs: list[Integers] = []  # minus log probability, in steps
        self._weights: list[Integers] = []  # of each order: added to the cost where its n-gram is a context and fails
        offset = 0
        for count, length in described["orders"]:
            self._keys.append(np.cumsum(_integers(body[offset : offset + length], count)))
            offset += length
            self._costs.append(np.frombuffer(body, np.uint8, count, offset).astype(np.int64))
            offset += count
            self._weights.append(np.frombuffer(body, np.int8, count, offset).astype(np.int64))
            offset += count

    def phones(self, letters: str) -> tuple[str, ...]:
        """letters: a to z, at least one; stress is 0, 1 or 2 after a vowel, as in CMUdict. 0.2 ms a letter."""
        order = len(self._keys)
        # Of each hypothesis: its n-gram of each length up to order - 1, by index, or -1; length 0 is always there.
        contexts = np.full((1, order), -1)
        contexts[0, 0] = 0
        contexts[0, 1] = START
        costs = np.zeros(1, np.int64)
        rows: list[tuple[Integers, Integers]] = []  # of each letter: the hypothesis gone on from, the graphone
        for letter in letters:
            candidates = self._of_letter[letter]
            added, following = self._extend(contexts, candidates)
            totals = (costs[:, None] + added).ravel()
            best = np.argsort(totals, kind="stable")[:BEAM]
            parents, chosen = best // len(candidates), best % len(candidates)
            rows.append((parents, candidates[chosen]))
            costs, contexts = totals[best], following[parents, chosen]
        ending, _ = self._extend(contexts, np.array([END]))
        place = int(np.argmin(costs + ending[:, 0]))
        graphones = []
        for parents, chosen in reversed(rows):
            graphones.append(int(chosen[place]))
            place = int(parents[place])
        return tuple(phone for graphone in reversed(graphones) for phone in self._phones[graphone])

    def _extend(self, contexts: Integers, candidates: Integers) -> tuple[Integers, Integers]:
        """Costs (hypotheses, candidates), and the contexts (hypotheses, candidates, order) that they lead to."""
        shape = (len(contexts), len(candidates))
        costs = np.zeros(shape, np.int64)
        following = np.full((*shape, len(self._keys)), -1)
        following[:, :, 0] = 0
        found = np.zeros(shape, np.bool_)
        for length in range(contexts.shape[1] - 1, -1, -1):
            known = contexts[:, length] >= 0
            if not known.any():
                continue
            keys = contexts[:, length, None] * self._size + candidates
            places = np.searchsorted(self._keys[length], keys)
            places = np.minimum(places, len(self._keys[length]) - 1)
            hit = (self._keys[length][places] == keys) & known[:, None]
            costs += np.where(hit & ~found, self._costs[length][places], 0)
            found |= hit
            if length:
                weights = self._weights[length - 1][contexts[:, length]]
                costs += np.where(~found & known[:, None], weights[:, None], 0)
            if length + 1 < following.shape[2]:
                following[:, :, length + 1] = np.where(hit, places, -1)
        return costs, following


def _integers(data: bytes, count: int) -> Integers:
    """Variable-length integers, seven bits a byte, the lowest first; the top bit says that more follow."""
    raw = np.frombuffer(data, np.uint8).astype(np.int64)
    last = raw < 128
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    shifts = (np.arange(len(raw)) - np.repeat(starts, np.diff(np.append(starts, len(raw))))) * 7
    values: Integers = np.add.reduceat((raw & 127) << shifts, starts)
    if len(values) != count:
        raise ValueError(f"the letter model has {len(values)} n-grams of an order where {count} are announced")
    return values
