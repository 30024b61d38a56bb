"""A resampler with less than two milliseconds of delay. The watermark uses it to and from its networks' rate.

soxr works in blocks of up to 40 ms. This filter is shorter than soxr's. Between 24 kHz and 44.1 or 48 kHz it is flat to
11 kHz, where the published watermark ends, and 90 dB down from 13 kHz on. A matrix converts blocks of a fixed size (80
samples at 24 kHz to 147 at 44.1 kHz), so the result does not depend on how the signal is cut, bit for bit.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from csm_bundle.runtime.block_product import BlockProduct
from csm_codec.resample import Pcm

HALF_WIDTH_PERIODS = 35  # of the lower rate, on each side of an output sample
LEAST_BLOCK = 64  # input samples of a block, at least, to limit the number of products
_BETA = 9.1  # Kaiser window


class BlockResampler:
    """Resamples in pieces. The last call returns the rest. Equal rates have no delay."""

    def __init__(self, rate_hz: int, wanted_hz: int) -> None:
        common = math.gcd(rate_hz, wanted_hz)
        scale = -(-LEAST_BLOCK * common // rate_hz)
        self._taken, self._given = scale * rate_hz // common, scale * wanted_hz // common  # samples per block
        self._equal = rate_hz == wanted_hz
        self._margin = math.ceil(HALF_WIDTH_PERIODS * rate_hz / min(rate_hz, wanted_hz))
        self._product = _product(rate_hz, wanted_hz, self._taken, self._given, self._margin)
        self._samples: Pcm = np.zeros(self._margin, np.float32)  # from so much before the next block on
        self._received = self._sent = 0

    @property
    def block(self) -> int:
        """Input samples of a block."""
        return 1 if self._equal else self._taken

    @property
    def block_given(self) -> int:
        """Output samples of a block."""
        return 1 if self._equal else self._given

    def begin_at(self, block: int) -> None:
        """Starts at a later block; samples before it count as silence. To be called before the first sample.

        The length of the end is rounded for the whole signal, half a sample to an even length. So it depends on this.
        """
        self._received, self._sent = block * self.block, block * self.block_given

    def first_exact_block(self, position: int) -> int:
        """The first block that does not depend on input before `position`."""
        margin = 0 if self._equal else self._margin
        return -(-(position + margin) // self.block)

    @property
    def lag_samples(self) -> int:
        """Most input samples whose output is still missing."""
        return 0 if self._equal else self._margin + self._taken - 1

    def ready(self, num_samples: int) -> int:
        """Number of output samples after the first `num_samples` input samples."""
        return num_samples if self._equal else max(0, num_samples - self._margin) // self._taken * self._given

    def push(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """The samples that are ready, possibly none."""
        if self._equal:
            return pcm
        self._received += len(pcm)
        ending = [np.zeros(2 * self._margin + self._taken, np.float32)] if last else []
        self._samples = np.concatenate((self._samples, pcm, *ending))
        blocks = max(0, len(self._samples) - 2 * self._margin) // self._taken
        if not blocks:
            return np.zeros(0, np.float32)
        given = self._product.of(self._samples, self._taken, blocks).ravel()
        self._samples = self._samples[blocks * self._taken :]
        if last:
            given = given[: round(self._received * self._given / self._taken) - self._sent]
        self._sent += len(given)
        return given


def block_resample(pcm: Pcm, rate_hz: int, wanted_hz: int) -> Pcm:
    """The whole signal: len(pcm) * wanted_hz / rate_hz samples, rounded."""
    return BlockResampler(rate_hz, wanted_hz).push(pcm, last=True)


@lru_cache(32)
def _product(rate_hz: int, wanted_hz: int, taken: int, given: int, margin: int) -> BlockProduct:
    """By a matrix (margin + taken + margin, given): a sinc at the lower rate through a Kaiser window."""
    lower_hz = min(rate_hz, wanted_hz)
    inputs_s = np.arange(-margin, taken + margin) / rate_hz
    outputs_s = np.arange(given) / wanted_hz
    periods = (outputs_s[None] - inputs_s[:, None]) * lower_hz
    inside = np.clip(1 - (periods / HALF_WIDTH_PERIODS) ** 2, 0, None)
    window = np.where(np.abs(periods) < HALF_WIDTH_PERIODS, np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA), 0.0)
    return BlockProduct((np.sinc(periods) * window * (lower_hz / rate_hz)).astype(np.float32))
