"""What is done between the matrix products of Mimi's decoder, in one pass over memory each. Compiled by numba.

All arrays are flat, and channels lie side by side: (steps, channels). "Stored" arrays have the decoder's dtype,
bfloat16 as its bits. All else is in float32, or in float64 for a decoder in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from numba import float32, float64, int64, njit, types, uint16

from csm_bundle.runtime.compiled import compiled, elu, exponential, load, store

Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True)
class FrameKernels:
    """The kernels for one dtype."""

    stored: npt.DTypeLike  # numpy's types of the two kinds of arrays
    real: npt.DTypeLike
    upsample: Kernel
    first_taps: Kernel
    taps: Kernel
    summed_taps: Kernel
    last: Kernel
    add: Kernel
    normalize: Kernel
    attend: Kernel


@cache
def frame_kernels(name: str) -> FrameKernels:
    """name: float32, float64 or bfloat16."""
    stored = {"bfloat16": uint16[::1], "float32": float32[::1], "float64": float64[::1]}[name]
    double = name == "float64"
    number, real = (float64, np.float64) if double else (float32, np.float32)
    numbers = number[::1]
    one, zero = real(1), real(0)
    variant = f"_{name}"

    @compiled(types.void(numbers, numbers, numbers, numbers), variant=variant)
    def upsample(latent, weight, kept, x):
        """latent, kept: (channels,), of this frame and the last. weight: (2 * steps, channels). x: (steps, channels)"""
        channels = len(latent)
        steps = len(x) // channels
        for step in range(steps):
            for c in range(channels):
                now, before = weight[step * channels + c], weight[(steps + step) * channels + c]
                x[step * channels + c] = now * latent[c] + before * kept[c]
        for c in range(channels):
            kept[c] = latent[c]

    @compiled(types.void(numbers, stored, stored, stored, int64, int64, int64, int64), variant=variant)
    def first_taps(x, kept, padded, inputs, row, channels, taps, dilation):
        """As `taps`, without ELU. x: all rows."""
        steps = len(x) // channels
        for c in range(len(kept)):
            padded[c] = kept[c]
        for c in range(len(x)):
            store(padded, len(kept) + c, x[c])
        _finish_taps(steps, channels, taps, dilation, kept, padded, inputs, row)

    @compiled(types.void(stored, stored, stored, stored, int64, int64, int64, int64), variant=variant)
    def taps(x, kept, padded, inputs, row, channels, taps, dilation):
        """ELU, then the taps of a causal convolution side by side.

        x: (steps, channels). kept: ((taps - 1) * dilation, channels), the newest steps before, after ELU. padded: room
        for both. inputs: (rows, steps, taps, channels), of which `row` is written.
        """
        steps = len(x) // channels
        for c in range(len(kept)):
            padded[c] = kept[c]
        for c in range(len(x)):
            store(padded, len(kept) + c, elu(load(x, c)))
        _finish_taps(steps, channels, taps, dilation, kept, padded, inputs, row)

    @compiled(types.void(stored, stored, stored, stored, stored, int64, int64, int64, int64), variant=variant)
    def summed_taps(x, y, kept, padded, inputs, row, channels, taps, dilation):
        """As `taps`, of x + y."""
        steps = len(x) // channels
        for c in range(len(kept)):
            padded[c] = kept[c]
        for c in range(len(x)):
            store(padded, len(kept) + c, elu(load(x, c) + load(y, c)))
        _finish_taps(steps, channels, taps, dilation, kept, padded, inputs, row)

    @compiled(types.void(stored, stored, numbers, numbers, number, numbers, numbers), "reassoc", "nsz", variant=variant)
    def last(x, y, kept, weight, bias, padded, pcm):
        """ELU of x + y and a convolution to one channel. weight: (taps, channels). pcm: (steps,)"""
        steps, width = len(pcm), len(weight)
        channels = len(x) // steps
        for c in range(len(kept)):
            padded[c] = kept[c]
        for c in range(len(x)):
            padded[len(kept) + c] = elu(load(x, c) + load(y, c))
        for step in range(steps):
            values = padded[step * channels : step * channels + width]
            total = zero
            for c in range(width):
                total += values[c] * weight[c]
            pcm[step] = bias + total
        for c in range(len(kept)):
            kept[c] = padded[steps * channels + c]

    @compiled(types.void(numbers, stored), variant=variant)
    def add(x, y):
        """x += y"""
        for c in range(len(x)):
            x[c] += load(y, c)

    @compiled(types.void(numbers, numbers, numbers, number, stored), "reassoc", "nsz", variant=variant)
    def normalize(x, weight, bias, epsilon, into):
        """Layer normalisation. x, into: (steps, channels)"""
        channels = len(weight)
        for step in range(len(x) // channels):
            values, result = x[step * channels : (step + 1) * channels], into[step * channels : (step + 1) * channels]
            total = zero
            for c in range(channels):
                total += values[c]
            mean = total / real(channels)
            square = zero
            for c in range(channels):
                square += (values[c] - mean) * (values[c] - mean)
            scale = one / np.sqrt(square / real(channels) + epsilon)
            for c in range(channels):
                store(result, c, (values[c] - mean) * scale * weight[c] + bias[c])

    @compiled(
        types.void(stored, numbers, numbers, int64, int64, int64, int64, int64, stored, stored, stored),
        "reassoc", "nsz", variant=variant,
    )  # fmt: skip
    def attend(projected, cosines, sines, steps, position, first, context, heads, keys, values, into):
        """Rotary embedding, the ring of keys and values, and attention, for the steps of one frame of one row.

        projected: (steps, 3, heads, dims). cosines, sines: (steps, dims / 2). position: of the first step. first: the
        row's first position. context: positions that a step sees, with itself. keys: (heads, dims, ring). values:
        (heads, ring, dims). into: (steps, heads, dims). The ring must hold context + steps - 1.
        """
        pairs = len(cosines) // steps
        dims = 2 * pairs
        width = heads * dims
        ring = len(keys) // width
        scale = one / np.sqrt(real(dims))
        for step in range(steps):
            slot = (position + step) % ring
            for head in range(heads):
                for pair in range(pairs):
                    d = head * dims + 2 * pair
                    cosine, sine = cosines[step * pairs + pair], sines[step * pairs + pair]
                    a, b = _rotate(projected, (3 * step + 1) * width + d, cosine, sine)
                    store(keys, d * ring + slot, a)
                    store(keys, (d + 1) * ring + slot, b)
                start = (head * ring + slot) * dims
                for d in range(dims):
                    values[start + d] = projected[(3 * step + 2) * width + head * dims + d]
        scores, total = np.empty(ring, real), np.empty(dims, real)
        for head in range(heads):
            for step in range(steps):
                for slot in range(ring):
                    scores[slot] = zero
                for pair in range(pairs):
                    d = head * dims + 2 * pair
                    cosine, sine = cosines[step * pairs + pair], sines[step * pairs + pair]
                    a, b = _rotate(projected, 3 * step * width + d, cosine, sine)
                    first_keys, second_keys = keys[d * ring : (d + 1) * ring], keys[(d + 1) * ring : (d + 2) * ring]
                    for slot in range(ring):
                        scores[slot] += a * load(first_keys, slot) + b * load(second_keys, slot)
                newest = position + step
                oldest = max(first, newest - context + 1)
                begin, count = oldest % ring, newest - oldest + 1
                until_end = min(count, ring - begin)
                most = scores[begin]
                for part in range(2):
                    part_scores = scores[begin : begin + until_end] if part == 0 else scores[: count - until_end]
                    for slot in range(len(part_scores)):
                        most = max(most, part_scores[slot])
                weights = zero
                for d in range(dims):
                    total[d] = zero
                for part in range(2):
                    start, length = (begin, until_end) if part == 0 else (0, count - until_end)
                    part_scores = scores[start : start + length]
                    for slot in range(length):
                        part_scores[slot] = exponential((part_scores[slot] - most) * scale)
                    for slot in range(length):
                        weights += part_scores[slot]
                    for slot in range(length):
                        weight = part_scores[slot]
                        at = (head * ring + start + slot) * dims
                        row = values[at : at + dims]
                        for d in range(dims):
                            total[d] += weight * load(row, d)
                result = into[step * width + head * dims : step * width + (head + 1) * dims]
                for d in range(dims):
                    store(result, d, total[d] / weights)

    return FrameKernels(
        np.dtype("u2" if name == "bfloat16" else name), np.dtype(real),
        upsample, first_taps, taps, summed_taps, last, add, normalize, attend,
    )  # fmt: skip


@njit(inline="always")
def _finish_taps(steps, channels, taps, dilation, kept, padded, inputs, row):
    """From the padded steps to the inputs of a product, and what the next frame needs of them."""
    width = taps * channels
    for step in range(steps):
        into = inputs[(row * steps + step) * width : (row * steps + step + 1) * width]
        if dilation == 1:
            values = padded[step * channels : step * channels + width]
            for c in range(width):
                into[c] = values[c]
        else:
            for tap in range(taps):
                start = (step + tap * dilation) * channels
                for c in range(channels):
                    into[tap * channels + c] = padded[start + c]
    for c in range(len(kept)):
        kept[c] = padded[steps * channels + c]


@njit(inline="always")
def _rotate(projected, at, cosine, sine):
    """A pair of neighbouring dimensions."""
    a, b = load(projected, at), load(projected, at + 1)
    return a * cosine - b * sine, a * sine + b * cosine
