"""When agreement is proof: how many symbols must agree before a mark is said to be found. No torch.

A secret key is drawn at random and has nothing to do with the audio that is searched. Whatever the network reads from
unmarked audio, each of the twenty symbols then agrees with the key with a chance of one in four, independently, so the
chance of k or more agreements is a binomial tail, and searching many phases, shifts and keys multiplies it at most by
their number. This holds for any audio; it does not hold for a key that somebody chose to fit it.
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
    """The least number of agreements that all `tries` together reach by chance at most so often.

    More than NUM_SYMBOLS when there are too many tries for any agreement to prove something.
    """
    return next(k for k in range(NUM_SYMBOLS + 2) if tries * tail(k) <= max_false_alarm)
