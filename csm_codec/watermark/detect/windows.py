"""Windows over the readings of a recording that fit a key better than chance explains. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from csm_codec.watermark.detect.evidence import WINDOW_PERIODS, Floats, Indices, Readings, log_chances
from csm_codec.watermark.detect.pieces import Pieces
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD

_LEAST_AGREEMENTS = 12  # of twenty symbols; windows with fewer are not worth a bound
_WINDOWS_AT_ONCE = 16_384  # times keys: 10 MB
_BOUNDS_AT_ONCE = 1024

# One window that carries the mark of one key. Frames are those of its phase, the end exclusive. The shift is of the
# message: frames f with f % PERIOD == shift carry its first symbol.
HIT = np.dtype(
    [
        ("first_frame", np.int64),
        ("end_frame", np.int64),
        ("phase", np.int64),
        ("shift", np.int64),
        ("key", np.int64),
        ("log_chance", np.float64),
    ]
)
Hits = npt.NDArray[np.void]  # of HIT

_Candidates = tuple[Indices, Indices, Indices]  # first period, shift, key


def hits(readings: Readings, phase: int, symbols: Sequence[Indices], log_limit: float) -> Pieces[Hits]:
    """Every window of one phase that fits a key with a chance of at most exp(log_limit). Tries every length and shift.

    In the order of lengths, shifts, beginnings and keys.
    readings: (frames, MESSAGE_DIM) log-probabilities. symbols: of each key, (NUM_SYMBOLS,), 0 to 3.
    """
    sums = _sums(readings)
    num_periods = len(sums) - 1
    of_keys = np.array(symbols, np.int64).reshape(-1, NUM_SYMBOLS)
    found = [np.zeros(0, HIT)]
    for length in sorted({min(length, num_periods) for length in WINDOW_PERIODS if num_periods}):
        of_length = [np.zeros(0, HIT)]
        at_once = max(1, _WINDOWS_AT_ONCE // max(1, len(of_keys)))
        for first in range(0, num_periods - length + 1, at_once):
            yield
            end = min(first + at_once, num_periods - length + 1)
            votes = (sums[first + length : end + length] - sums[first:end]).astype(np.float32)  # (windows, PERIOD, 4)
            for firsts, shifts, keys in _in_parts(_candidates(votes, of_keys), _BOUNDS_AT_ONCE):
                yield
                places = (shifts[:, None] + np.arange(NUM_SYMBOLS)) % PERIOD
                chances = log_chances(votes[firsts[:, None], places], of_keys[keys]).astype(np.float64)
                part = np.zeros(len(firsts), HIT)
                part["first_frame"] = (first + firsts) * PERIOD
                part["end_frame"] = np.minimum((first + firsts + length) * PERIOD, len(readings))
                part["phase"], part["shift"], part["key"], part["log_chance"] = phase, shifts, keys, chances
                of_length.append(part[chances <= log_limit])
        joined = np.concatenate(of_length)
        found.append(joined[np.lexsort((joined["key"], joined["first_frame"], joined["shift"]))])
    return np.concatenate(found)


def _sums(readings: Readings) -> npt.NDArray[np.float64]:
    """Of the first 0, 1, 2 ... periods: (periods + 1, PERIOD, 4)."""
    num_periods = -(-len(readings) // PERIOD)
    padded = np.pad(readings, ((0, num_periods * PERIOD - len(readings)), (0, 0)))
    periods = padded.reshape(num_periods, PERIOD, -1)[:, :, 1:]  # the end mark is the same for every key
    sums = np.zeros((num_periods + 1, *periods.shape[1:]))
    np.cumsum(periods, axis=0, dtype=np.float64, out=sums[1:])
    return sums


def _candidates(votes: Floats, of_keys: Indices) -> _Candidates:
    """Windows in which enough symbols are those of a key.

    votes: (windows, PERIOD, 4). of_keys: (keys, NUM_SYMBOLS).
    """
    heard = np.where(np.ptp(votes, axis=2) > 0, votes.argmax(axis=2), -1).astype(np.int8)  # (windows, PERIOD)
    audible = np.flatnonzero((heard >= 0).sum(axis=1) >= _LEAST_AGREEMENTS)
    twice = np.concatenate((heard[audible], heard[audible]), axis=1).T.copy()  # for shifts around the message's end
    symbols = of_keys.astype(np.int8)
    agreeing = np.zeros((len(of_keys), PERIOD, len(audible)), np.int8)  # (keys, shifts, windows)
    for place in range(NUM_SYMBOLS):
        agreeing += (twice[place : place + PERIOD] == symbols[:, place, None, None]).view(np.int8)
    keys, shifts, windows = np.nonzero(agreeing >= _LEAST_AGREEMENTS)
    return audible[windows], shifts, keys


def _in_parts(candidates: _Candidates, most: int) -> Iterator[_Candidates]:
    firsts, shifts, keys = candidates
    for start in range(0, len(firsts), most):
        part = slice(start, start + most)
        yield firsts[part], shifts[part], keys[part]
