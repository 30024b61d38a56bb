"""Writes a trained network as csm_text reads it: whole numbers of eight bits, with a scale for each column."""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csm_text.pronunciation.network import LARGEST, LEVELS, PER_UNIT, REACH, STEP

Floats = npt.NDArray[np.float64]
Weights = dict[str, Floats]  # of the trained network, by the names of its parameters

ONE = 1 << 16  # the exponential of 0
FARTHEST = 12  # nats behind the best graphone; what is farther counts as that


def write(path: Path, graphones: Sequence[tuple[str, Sequence[str]]], weights: Weights, ngram_weight: int) -> None:
    """ngram_weight: what a step of a cost of the n-gram model counts, in steps of the network's costs."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    windows = [name for name in weights if name.startswith("window.")]
    tables = np.stack([weights[name] for name in windows])
    halves = np.ones(tables.shape[-1])
    halves[len(halves) // 3 :] = 0.5  # sigmoid(x) is (tanh(x / 2) + 1) / 2
    arrays["window"], arrays["window_scale"] = _whole(tables * halves)
    arrays["window_bias"] = (weights["window_bias"] * halves).astype(np.float32)
    layers = sum(name.startswith("layers.") and name.endswith("weight") for name in weights)
    for index in range(layers):
        layer = f"layers.{index}.linear"
        _product(arrays, f"layer{index}", weights[f"{layer}.weight"].T * halves, weights[f"{layer}.bias"] * halves, 1.0)
    _product(arrays, "up", weights["up.weight"].T, weights["up.bias"], 1.0)
    past = np.stack([weights[name] for name in weights if name.startswith("past.")])
    rows, scale = _whole(np.concatenate([past.reshape(-1, past.shape[-1]), weights["after_stress"]]))
    arrays["past"], arrays["after_stress"] = rows[:-2].reshape(past.shape), rows[-2:]
    arrays["past_scale"] = scale
    _product(arrays, "out", weights["out.weight"].T, weights["out.bias"], LARGEST)
    numbers = np.arange(-REACH * PER_UNIT, REACH * PER_UNIT + 1) / PER_UNIT
    arrays["tanh"] = np.rint(np.tanh(numbers) * ((1 << 15) - 1)).astype(np.int16)
    arrays["exp"] = np.rint(np.exp(-np.arange(round(FARTHEST / STEP) + 1) * STEP) * ONE).astype(np.int32)
    most = max(sum(letter == one for letter, _ in graphones) for one, _ in graphones)
    arrays["sums"] = np.ceil(np.exp((np.arange(math.ceil(math.log(most) / STEP)) + 0.5) * STEP) * ONE).astype(np.int32)
    header = {
        "graphones": graphones,
        "ngram_weight": ngram_weight,
        "layers": layers,
        "arrays": [(name, array.dtype.str, array.shape) for name, array in arrays.items()],
    }
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    path.write_bytes(lzma.compress(json.dumps(header).encode() + b"\n" + body, preset=9))


def _product(arrays: dict[str, npt.NDArray[np.generic]], name: str, matrix: Floats, bias: Floats, one: float) -> None:
    """one: the activation that is given as LEVELS."""
    arrays[name], scale = _whole(matrix)
    arrays[f"{name}_scale"] = (scale * one / LEVELS).astype(np.float32)
    arrays[f"{name}_bias"] = bias.astype(np.float32)


def _whole(matrix: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """matrix: [..., columns]. Returns whole numbers up to 127, and the scale of each column."""
    scale = np.abs(matrix).max(axis=tuple(range(matrix.ndim - 1))) / 127
    return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)
