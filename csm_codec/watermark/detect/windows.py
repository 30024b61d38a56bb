"""Windows over the readings of a recording that fit a key better than chance explains. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csm_codec.watermark.detect.evidence import WINDOW_PERIODS, Floats, Indices, log_chances
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD

_LEAST_AGREEMENTS = 12  # of twenty symbols; windows with fewer are not worth a bound


@dataclass(frozen=True, slots=True)
class Hit:
    """One window that carries the mark of one key. Frames are those of its phase."""

    first_frame: int
    end_frame: int
    phase: int
    shift: int  # of the message: frames f with f % PERIOD == shift carry its first symbol
    key: int
    log_chance: float


def hits(readings: Floats, phase: int, symbols: Sequence[Indices], log_limit: float) -> list[Hit]:
    """Every window of one phase that fits a key with a chance of at most exp(log_limit). Tries every length and shift.

    readings: (frames, MESSAGE_DIM) log-probabilities. symbols: of each key, (NUM_SYMBOLS,), 0 to 3.
    """
    num_periods = -(-len(readings) // PERIOD)
    padded = np.pad(readings, ((0, num_periods * PERIOD - len(readings)), (0, 0)))
    periods = padded.reshape(num_periods, PERIOD, -1)[:, :, 1:]  # the end mark is the same for every key
    sums = np.concatenate((np.zeros_like(periods[:1], np.float64), np.cumsum(periods, axis=0, dtype=np.float64)))
    of_keys = np.array(symbols, np.int64).reshape(-1, NUM_SYMBOLS)
    found: list[Hit] = []
    lengths = sorted({min(length, num_periods) for length in WINDOW_PERIODS if num_periods})
    for length in lengths:
        votes = (sums[length:] - sums[:-length]).astype(np.float32)  # (windows, PERIOD, 4)
        heard = np.where(np.ptp(votes, axis=2) > 0, votes.argmax(axis=2), -1)
        for shift in range(PERIOD):
            places = (shift + np.arange(NUM_SYMBOLS)) % PERIOD
            agreeing = (heard[:, places][:, None] == of_keys).sum(axis=2)  # (windows, keys)
            firsts, keys = np.nonzero(agreeing >= _LEAST_AGREEMENTS)
            if not len(firsts):
                continue
            chances = log_chances(votes[firsts][:, places], of_keys[keys])  # of all keys at once: calls take the time
            found += [
                Hit(first * PERIOD, min((first + length) * PERIOD, len(readings)), phase, shift, key, chance)
                for first, key, chance in zip(firsts.tolist(), keys.tolist(), chances.tolist(), strict=True)
                if chance <= log_limit
            ]
    return found
