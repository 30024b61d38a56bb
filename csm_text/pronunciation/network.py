"""A network that reads a whole word and gives the cost of each graphone of each letter. It does not search.

Gated recurrent layers read the word in both directions. The cost of a graphone also depends on the last graphones and
on whether an earlier vowel has primary stress. whole_words.py searches with these costs.

The same letters have the same costs on every machine. Matrix products are of whole numbers, which stay below 2**24 in
all partial sums, so 32-bit floats hold them exactly in any order of summation. Everything else is elementwise: sums,
products and roundings as IEEE 754 defines them, and tables for the functions that it does not define.

The file is compressed with lzma: a line of JSON (graphones, arrays in their order, the n-grams' weight), then the
arrays, little-endian. Trained by recipes/english_phonemes.
"""

from __future__ import annotations

import json
import lzma
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 511  # steps that an activation from 0 to 1 is rounded to
LARGEST = 8.0  # activation of the last hidden layer; larger ones are clipped
REACH, PER_UNIT = 8, 256  # the table of tanh goes from -REACH to REACH, with PER_UNIT entries for each unit
STEP = 1 / 64  # nats: the unit of costs
EXACT = 1 << 24  # whole numbers up to it are exact in 32-bit floats
# Multiplications in one call of OpenBLAS. From twice as many on, OpenBLAS uses threads, which busy-wait for each other
# for longer than a word takes.
MOST_AT_ONCE = 1 << 18

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Product:
    """A product with a matrix of whole numbers, with a scale and a bias for each of its columns."""

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
    """Costs of graphones, in units of STEP. Threads may share it."""

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
        self.ngram_weight: int = described["ngram_weight"]  # by which costs of the n-gram model are multiplied
        # For each letter, the range of its graphones, which are sorted by letter.
        self.of_letter: dict[str, tuple[int, int]] = {}
        for place, (letter, _) in enumerate(self.graphones):
            self.of_letter[letter] = (self.of_letter.get(letter, (place, 0))[0], place + 1)
        # [graphones], 1 where a phone has primary stress
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
        # The sums of exponentials at which the logarithm reaches the next step.
        self._sums = arrays["sums"].astype(np.int64)

    @property
    def remembered(self) -> int:
        """How many of the last graphones `costs` takes."""
        return len(self._past)

    def read(self, letters: str) -> Floats:
        """Reads a word of letters a to z. Returns [letters, hidden]; `costs` takes one row of it."""
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
        """[hypotheses, graphones of the letter]

        row: the letter's row of `read`. past: [hypotheses, remembered] graphones, the last one first, START before the
        word. after_stress: [hypotheses], 1 where an earlier vowel has primary stress.
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
        """The output of a gated recurrent layer: [letters, width]. Half of the width runs forwards, half backwards.

        linear: [letters, 3 * width]: the candidate, the forget gate and the highway gate. Both gates are halved, as
        sigmoid(x) is (tanh(x / 2) + 1) / 2. read: the output of the layer below, None for the first.
        """
        width = linear.shape[1] // 3
        places = np.rint(np.clip(linear, -REACH, REACH) * np.float32(PER_UNIT)).astype(np.int64)
        activated = self._tanh[places + REACH * PER_UNIT]
        candidate = activated[:, :width]
        forget, highway = np.split((activated[:, width:] + np.float32(1)) * np.float32(0.5), 2, axis=1)
        state = (np.float32(1) - forget) * candidate
        half = width // 2
        forwards, backwards = state[:, :half], state[::-1, half:]
        for states, gates in ((forwards, forget[:, :half]), (backwards, forget[::-1, half:])):
            for index in range(1, len(states)):
                states[index] += gates[index] * states[index - 1]
        result: Floats = state * highway if read is None else read + highway * (state - read)
        return result


def _product(arrays: dict[str, npt.NDArray[Any]], name: str, columns: slice = slice(None)) -> Product:
    return Product(arrays[name][:, columns], arrays[f"{name}_scale"][columns], arrays[f"{name}_bias"][columns])
