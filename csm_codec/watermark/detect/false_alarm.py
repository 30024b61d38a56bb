"""When agreement is proof: how many symbols must agree before a mark is said to be found. No torch.

A secret key is drawn at random, independently of the audio that is searched. So each of the twenty symbols that the
network reads from unmarked audio agrees with the key with a chance of 1/4, independently of the others. The chance of k
or more agreements is a binomial tail. Trying many phases, shifts and keys multiplies it at most by their number. This
holds for any audio. It does not hold for a key that was chosen to fit the audio.
"""

from __future__ import annotations

from math import comb

from csm_codec.watermark.keys.payload import BITS_PER_SYMBOL, NUM_SYMBOLS

MAX_FALSE_ALARM = 1e-5  # per clip

_CHANCE = 1 / 2**BITS_PER_SYMBOL


def tail(agreements: int) -> float:
    """The chance that at least so many symbols of one random key agree."""
    terms = range(agreements, NUM_SYMBOLS + 1)
    return sum(comb(NUM_SYMBOLS, k) * _CHANCE**k * (1 - _CHANCE) ** (NUM_SYMBOLS - k) for k in terms)


def needed_agreements(tries: int, max_false_alarm: float = MAX_FALSE_ALARM) -> int:
    """The least number of agreements that all `tries` together reach by chance at most as often as allowed.

    More than NUM_SYMBOLS when there are too many tries for any agreement to prove something.
    """
    return next(k for k in range(NUM_SYMBOLS + 2) if tries * tail(k) <= max_false_alarm)
