"""How improbable it is that votes fit a key by chance: a bound for each window, a threshold for an hour. No torch.

A secret key is drawn at random and independently of the audio that is searched (see false_alarm.py). For any votes of a
window, the score of a random key is a sum of twenty independent terms. Each term takes one of four known values with a
chance of 1/4. Chernoff's inequality bounds the chance that such a sum reaches the score of our key:

    P(sum >= score) <= exp(-t * score) * prod_j mean_k exp(t * vote[j, k])      for every t >= 0

The bound holds for any audio and any network. The union bound over all tries of an hour then gives the rate of false
alarms; it needs no independence between the tries.
"""

from __future__ import annotations

from math import floor, log

import numpy as np
import numpy.typing as npt

from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD

MAX_FALSE_ALARMS_PER_HOUR = 1e-4  # of audio, over all windows, phases, shifts and keys together
WINDOW_PERIODS = (2, 4, 8, 16)  # lengths of the windows, in messages; one of each begins at every period
PHASES = 4  # of the frame grid on which symbols are read

_SLOPES = np.geomspace(0.02, 40, 48)  # values of t; more of them make the bound no larger and hardly smaller
_ROUNDING = 1e-6  # more than the error of a bound. Bounds are convex in t: one that rises by more rises from there on

Floats = npt.NDArray[np.float32]
Readings = npt.NDArray[np.float16 | np.float32]  # log-probabilities; half the bits are enough, and all sums have more
Indices = npt.NDArray[np.int64]


def tries_per_hour(period_s: float, num_keys: int) -> float:
    """Windows that begin within an hour, times phases, shifts of the message and keys. period_s: of one message."""
    return 3600 / period_s * len(WINDOW_PERIODS) * PHASES * PERIOD * num_keys


def log_threshold(period_s: float, num_keys: int) -> float:
    """The natural logarithm of the chance at or below which a window counts as marked."""
    return log(MAX_FALSE_ALARMS_PER_HOUR / tries_per_hour(period_s, num_keys))


def most_keys(period_s: float) -> int:
    """How many keys can be searched for at the stated rate. With more, chance would explain even a perfect reading."""
    return floor(MAX_FALSE_ALARMS_PER_HOUR * 4**NUM_SYMBOLS / tries_per_hour(period_s, 1))


def log_chances(votes: Floats, symbols: Indices) -> Floats:
    """Bounds of the chance that a random key scores at least as high, as natural logarithms.

    votes: (windows, NUM_SYMBOLS, 4), what speaks for each of the four symbols at each place of the message.
    symbols: of the key, (NUM_SYMBOLS,), or of each window's key, (windows, NUM_SYMBOLS); 0 to 3.
    Returns (windows,), at most 0 and at least NUM_SYMBOLS * log(1/4).
    """
    taken = votes.astype(np.float64)
    taken -= taken.max(axis=2, keepdims=True)  # the bound does not change; exponentials cannot overflow
    scores = taken[np.arange(len(votes))[:, None], np.arange(NUM_SYMBOLS), symbols].sum(axis=1)
    of_symbols = np.ascontiguousarray(np.moveaxis(taken, 2, 0))  # (4, windows, NUM_SYMBOLS)
    lowest = np.log((taken == 0).sum(axis=2) / 4).sum(axis=1)  # moments at which exponentials of the rest have vanished
    best = np.zeros(len(votes))
    falling = np.arange(len(votes))  # windows whose bound may be lower at the next value of t
    for slope in _SLOPES:
        first, second, third, fourth = np.exp(slope * of_symbols)
        moments = np.log((first + second + third + fourth) / 4).sum(axis=1)
        bounds = moments - slope * scores
        best[falling] = np.minimum(best[falling], bounds)
        falls = (bounds <= best[falling] + _ROUNDING) & (moments > lowest)
        if 4 * np.count_nonzero(falls) < 3 * len(falling):
            falling, scores, lowest, of_symbols = falling[falls], scores[falls], lowest[falls], of_symbols[:, falls]
    return best.astype(np.float32)
