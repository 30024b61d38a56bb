"""A letter-to-sound model for words that are not in the dictionary: a joint n-gram model with a beam search.

A word is a sequence of graphones: a letter with no, one or two phones. The model gives the probability of a graphone
after the previous ones. An unseen n-gram backs off to a shorter context. All numbers are integers, so that the same
letters give the same phones on every machine. Trained by recipes/english_phonemes from CMUdict.

The file is compressed with lzma: a line of JSON (graphones, n-grams of each order), then for each order the differences
of the sorted keys as variable-length integers, log probabilities and back-off weights.
"""

from __future__ import annotations

import json
import lzma
from array import array
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

START, END = 0, 1  # the graphones before and after a word
STEP = 1 / 16  # nats: the unit of log probabilities and back-off weights
BEAM = 12  # hypotheses after each letter
CACHED_LENGTH, CACHE_SIZE = 2, 16_000  # costs after contexts of up to 2 graphones are cached, at most so many

Integers = npt.NDArray[np.int64]

# The indices of the n-grams that end with the last graphone, from the longest to the shortest; -1 for a length unseen.
_Context = tuple[int, ...]


class LetterModel:
    """Predicts a word's phones from its letters, a to z only. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Loads the model. Raises: OSError or ValueError if the file cannot be used."""
        header, _, body = lzma.decompress(path.read_bytes()).partition(b"\n")
        described = json.loads(header)
        self.graphones = [(letter, tuple(phones)) for letter, phones in described["graphones"]]
        size = len(self.graphones)
        self._of_letter: dict[str, dict[int, int]] = {"": {END: 0}}  # graphone -> its place among those of the letter
        for index, (letter, _) in enumerate(self.graphones[END + 1 :], END + 1):
            of_letter = self._of_letter.setdefault(letter, {})
            of_letter[index] = len(of_letter)
        # For each order, its n-grams sorted by context: the last graphone, its negative log probability in steps, the
        # back-off weight of the n-gram as a context; and for each context, where its n-grams begin.
        self._last: list[array[int]] = []
        self._costs: list[bytes] = []
        self._weights: list[array[int]] = []
        self._first: list[array[int]] = []
        contexts = offset = 0
        for count, length in described["orders"]:
            keys = np.cumsum(_integers(body[offset : offset + length], count))  # context * graphones + graphone
            offset += length
            self._last.append(array("h", (keys % size).astype(np.int16).tobytes()))
            counts = np.bincount(keys // size, minlength=contexts or 1)
            self._first.append(array("i", np.concatenate([[0], np.cumsum(counts)]).astype(np.int32).tobytes()))
            self._costs.append(body[offset : offset + count])
            self._weights.append(array("b", body[offset + count : offset + 2 * count]))
            offset += 2 * count
            contexts = count
        self._cached_after = lru_cache(maxsize=CACHE_SIZE)(self._after)

    def phones(self, letters: str) -> tuple[str, ...]:
        """The phones, with a vowel's stress as in CMUdict. letters: a to z, at least one. 0.1 ms a letter."""
        hypotheses: list[tuple[int, _Context]] = [(0, (START,))]  # cost so far and context
        rows: list[list[tuple[int, int]]] = []  # for each letter and hypothesis: (its parent's index, its graphone)
        for letter in letters:
            totals: list[int] = []
            contexts: list[_Context] = []
            for cost, context in hypotheses:
                added, following = self.after(letter, context)
                totals += [cost + more for more in added]
                contexts += following
            best = sorted(range(len(totals)), key=totals.__getitem__)[:BEAM]
            candidates = list(self._of_letter[letter])
            rows.append([(place // len(candidates), candidates[place % len(candidates)]) for place in best])
            hypotheses = [(totals[place], contexts[place]) for place in best]
        ended = [cost + self.after("", context)[0][0] for cost, context in hypotheses]
        parent = ended.index(min(ended))
        graphones = []
        for row in reversed(rows):
            parent, graphone = row[parent]
            graphones.append(graphone)
        return tuple(phone for graphone in reversed(graphones) for phone in self.graphones[graphone][1])

    def after(self, letter: str, context: _Context) -> tuple[list[int], list[_Context]]:
        """For each graphone of the letter: its cost after the context, and the context that it leads to.

        letter: a to z; "" for the end of the word.
        """
        after = self._cached_after if len(context) <= CACHED_LENGTH else self._after
        return after(letter, context)

    def _after(self, letter: str, context: _Context) -> tuple[list[int], list[_Context]]:
        candidates, length = self._of_letter[letter], len(context)
        index = 0
        costs: list[int] = [0] * len(candidates)
        following: list[_Context] = [()] * len(candidates)
        if context:
            index = context[0]
            costs, following = self.after(letter, context[1:])
            if index < 0:
                return costs, following
            weight = self._weights[length - 1][index]
            costs, following = [weight + cost for cost in costs], following.copy()
        first, last = self._first[length], self._last[length]
        for place in range(first[index], first[index + 1]):
            candidate = candidates.get(last[place])
            if candidate is not None:
                costs[candidate] = self._costs[length][place]
                if length + 1 < len(self._last):
                    shorter = following[candidate]
                    following[candidate] = (place, *(-1,) * (length - len(shorter)), *shorter)
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
