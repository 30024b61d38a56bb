"""Continues the resampling and encoding of a stream at another gateway, bit for bit, without the earlier samples.

A resampler's filter has a finite reach, so it needs only the last samples. A FLAC frame depends on its own samples and
its number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.gateway.audio.resampling.resampler import FILTER_TAPS, open_resampler

_MAX_KEPT_SAMPLES = 4096  # uncommon rates would need more, and cannot resume


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a stream of samples that are resampled and encoded."""

    decoded_samples: int  # before the place, at the codec's rate
    sent_samples: int  # that the caller has, at the caller's rate
    last_samples: bytes = b""  # the last ones before the place, 16-bit, at the codec's rate


class LastSamples:
    """The last samples of a stream, as many as `ContinuedResampler` needs."""

    def __init__(self, from_hz: int, to_hz: int, lag_s: float, last_samples: bytes) -> None:
        """lag_s: see `kept_samples`. last_samples: those of the Place where the stream begins"""
        self._rates_hz = from_hz, to_hz
        self._size = 2 * kept_samples(from_hz, to_hz, lag_s)
        self._kept = last_samples

    def push(self, samples: bytes) -> None:
        """samples: 16-bit"""
        self._kept = (self._kept + samples)[-self._size :]

    def place(self, decoded_samples: int, sent_samples: int) -> Place:
        """The current place. decoded_samples: all that were pushed, and those before the stream began"""
        begin = decoded_samples - len(self._kept) // 2
        unaligned = aligned(begin, *self._rates_hz) - begin
        return Place(decoded_samples, sent_samples, self._kept[2 * unaligned :])


class ContinuedResampler:
    """A resampler whose output begins after `place.sent_samples`."""

    def __init__(self, from_hz: int, to_hz: int, place: Place) -> None:
        self._resampler = open_resampler(from_hz, to_hz)
        begin = place.decoded_samples - len(place.last_samples) // 2
        self._skip_bytes = 2 * (place.sent_samples - begin * to_hz // from_hz)
        self._last_samples = place.last_samples

    def push(self, samples: bytes) -> bytes:
        if self._last_samples:
            samples, self._last_samples = self._last_samples + samples, b""
        return self._skipped(self._resampler.push(samples))

    def flush(self) -> bytes:
        return self.push(b"") + self._skipped(self._resampler.flush())

    def _skipped(self, samples: bytes) -> bytes:
        """The samples without those that the caller has."""
        num_bytes = min(self._skip_bytes, len(samples))
        self._skip_bytes -= num_bytes
        return samples[num_bytes:]


def can_continue(from_hz: int, to_hz: int, lag_s: float) -> bool:
    return kept_samples(from_hz, to_hz, lag_s) <= _MAX_KEPT_SAMPLES


def kept_samples(from_hz: int, to_hz: int, lag_s: float) -> int:
    """Samples at `from_hz` needed before a place: twice the filter's reach, the encoder's lag and one period of the
    rates.

    lag_s: seconds of audio that the encoder may hold back
    """
    reach = 0 if from_hz == to_hz else FILTER_TAPS * math.ceil(max(1.0, from_hz / to_hz))
    return 2 * reach + math.ceil(lag_s * from_hz) + _period(from_hz, to_hz)


def aligned(sample: int, from_hz: int, to_hz: int) -> int:
    """The first sample at `from_hz`, at or after `sample`, that coincides with a sample at `to_hz`."""
    return sample + -sample % _period(from_hz, to_hz)


def _period(from_hz: int, to_hz: int) -> int:
    """Samples at `from_hz` after which both rates have a sample at the same moment."""
    return from_hz // math.gcd(from_hz, to_hz)
