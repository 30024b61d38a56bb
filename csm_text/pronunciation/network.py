"""The network of the letter-to-sound model: it reads a whole word, and says how likely each graphone of a letter is.

Gated recurrent layers read the word in both directions. At each letter, the network then knows the word, the last
graphones and whether a vowel before has the first stress. It does not search (whole_words.py).

The same letters have the same costs on every machine. The products of matrices are of whole numbers, below 2**24 with
all their partial sums, so 32-bit floats hold them exactly in every order of summing. All else works on single numbers:
sums, products and roundings as IEEE 754 defines them, and tables for the functions that it does not define.

File, compressed with lzma: a line of JSON (graphones, arrays in their order, the n-grams' weight), then the arrays,
little-endian. Trained by recipes/english_phonemes.
"""

from __future__ import annotations

import json
import lzma
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 511  # of an activation from 0 to 1
LARGEST = 8.0  # activation before the graphones; what is above is cut off
REACH, PER_UNIT = 8, 256  # the table of tanh: up to which number, entries for each unit
STEP = 1 / 64  # nats: the unit of costs
EXACT = 1 << 24  # whole numbers up to it are exact in 32-bit floats
# Multiplications of one call of NumPy's library (OpenBLAS), which shares twice as many among its threads. They wait for
# each other in loops, for longer than a word takes.
MOST_AT_ONCE = 1 << 18

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Product:
    """A product with a matrix of whole numbers, one scale for each of its columns, and a bias."""

    def __init__(self, matrix: npt.NDArray[Any], scale: Floats, bias: Floats) -> None:
        """matrix: [inputs, outputs]. Raises: ValueError if inputs up to LEVELS could make a sum that is not exact."""
        if (np.abs(matrix.astype(np.int64)).sum(axis=0) * LEVELS >= EXACT).any():
            raise ValueError("the letter model has a matrix whose sums are not exact")
        self._matrix, self._scale, self._bias = np.ascontiguousarray(matrix, np.float32), scale, bias

    def __call__(self, levels: Floats) -> Floats:
        """levels: [rows, inputs], whole numbers from -LEVELS to LEVELS."""
        sums = np.empty((len(levels), self._matrix.shape[1]), np.float32)
        step = max(1, MOST_AT_ONCE // levels.size)
        for first in range(0, sums.shape[1], step):
            columns = slice(first, first + step)
            np.matmul(levels, self._matrix[:, columns], out=sums[:, columns])
        return sums * self._scale + self._bias


class Network:
    """Costs of graphones, in steps of STEP. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Loads the network. Raises: OSError or ValueError if the file cannot be used."""
        header, _, body = lzma.decompress(path.read_bytes()).partition(b"\n")
        described = json.loads(header)
        arrays: dict[str, npt.NDArray[Any]] = {}
        offset = 0
        for name, kind, shape in described["arrays"]:
            arrays[name] = np.frombuffer(body, kind, prod(shape), offset).reshape(shape)
            offset += arrays[name].nbytes
        self.graphones = [(letter, tuple(phones)) for letter, phones in described["graphones"]]
        self.ngram_weight: int = described["ngram_weight"]  # what a step of a cost of the n-gram model counts
        # Of each letter: the first of its graphones and the one after the last. They are sorted by letter.
        self.of_letter: dict[str, tuple[int, int]] = {}
        for place, (letter, _) in enumerate(self.graphones):
            self.of_letter[letter] = (self.of_letter.get(letter, (place, 0))[0], place + 1)
        # [graphones], 1 where a phone has the first stress
        self.stressed = np.array([any("1" in phone for phone in phones) for _, phones in self.graphones], np.int64)
        self._window = arrays["window"].astype(np.int16)  # [place, letter or 0 beyond the word, 3 * width]
        self._window_scale, self._window_bias = arrays["window_scale"], arrays["window_bias"]
        self._layers = [_product(arrays, f"layer{index}") for index in range(described["layers"])]
        self._up = _product(arrays, "up")
        self._past = arrays["past"].astype(np.int16)  # [how long ago, graphone, hidden]
        self._after_stress = arrays["after_stress"].astype(np.int16)  # [0 or 1, hidden]
        self._past_scale = arrays["past_scale"]
        self._out = {letter: _product(arrays, "out", slice(*found)) for letter, found in self.of_letter.items()}
        self._tanh = arrays["tanh"].astype(np.float32) / np.float32(1 << 15)
        self._exp = arrays["exp"].astype(np.int64)  # of minus a number of steps
        # The sums of exponentials from which on the logarithm is a step more.
        self._sums = arrays["sums"].astype(np.int64)

    @property
    def remembered(self) -> int:
        """How many of the last graphones `costs` takes."""
        return len(self._past)

    def read(self, letters: str) -> Floats:
        """Of a word, a to z: [letters, hidden], to be given to `costs` row by row."""
        window = len(self._window)
        codes = np.zeros(len(letters) + window - 1, np.int64)
        codes[window // 2 : window // 2 + len(letters)] = np.frombuffer(letters.encode(), np.uint8) - 96
        seen = np.lib.stride_tricks.sliding_window_view(codes, window)
        sums = self._window[np.arange(window), seen].sum(axis=1, dtype=np.int32)
        read = self._gated(sums.astype(np.float32) * self._window_scale + self._window_bias, None)
        for layer in self._layers:
            read = self._gated(layer(np.rint(read * np.float32(LEVELS))), read)
        return self._up(np.rint(read * np.float32(LEVELS)))

    def costs(self, row: Floats, past: Integers, after_stress: Integers, letter: str) -> Integers:
        """Of each hypothesis and graphone of the letter.

        row: of `read`. past: [hypotheses, remembered] graphones, the last one first, START before the word.
        after_stress: [hypotheses], 1 where a vowel before has the first stress.
        """
        sums = self._after_stress[after_stress].astype(np.int32)
        for ago, table in enumerate(self._past):
            sums += table[past[:, ago]]
        hidden = np.clip(row + sums.astype(np.float32) * self._past_scale, 0, np.float32(LARGEST))
        logits = self._out[letter](np.rint(hidden * np.float32(LEVELS / LARGEST)))
        steps = np.rint(logits * np.float32(1 / STEP)).astype(np.int64)
        steps = steps.max(axis=1, keepdims=True) - steps
        exponentials = self._exp[np.minimum(steps, len(self._exp) - 1)]
        costs: Integers = steps + np.searchsorted(self._sums, exponentials.sum(axis=1), side="right")[:, None]
        return costs

    def _gated(self, linear: Floats, read: Floats | None) -> Floats:
        """One layer's reading [letters, width] from its linear part [letters, 3 * width], in which the parts that go
        through a sigmoid are halved. Half of the width is read forwards and half backwards. read: the layer below's."""
        width = linear.shape[1] // 3
        places = np.rint(np.clip(linear, -REACH, REACH) * np.float32(PER_UNIT)).astype(np.int64)
        bent = self._tanh[places + REACH * PER_UNIT]
        new = bent[:, :width]
        kept, through = np.split((bent[:, width:] + np.float32(1)) * np.float32(0.5), 2, axis=1)
        state = (np.float32(1) - kept) * new
        half = width // 2
        forwards, backwards = state[:, :half], state[::-1, half:]
        for states, keeps in ((forwards, kept[:, :half]), (backwards, kept[::-1, half:])):
            for index in range(1, len(states)):
                states[index] += keeps[index] * states[index - 1]
        result: Floats = state * through if read is None else read + through * (state - read)
        return result


def _product(arrays: dict[str, npt.NDArray[Any]], name: str, columns: slice = slice(None)) -> Product:
    return Product(arrays[name][:, columns], arrays[f"{name}_scale"][columns], arrays[f"{name}_bias"][columns])
