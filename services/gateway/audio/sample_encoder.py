"""The encoder of PCM and G.711: resamples, then packs every sample by itself."""

from __future__ import annotations

from collections.abc import Callable

from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.resampling.resampler import Resampler


class SampleEncoder:
    """One utterance, without a header."""

    def __init__(self, resampler: Resampler, pack: Callable[[bytes], bytes]) -> None:
        """pack: converts 16-bit samples to the encoding"""
        self._resampler = resampler
        self._pack = pack

    def push(self, samples: bytes) -> EncodedAudio:
        return self._packed(self._resampler.push(samples))

    def finish(self) -> EncodedAudio:
        return self._packed(self._resampler.flush())

    def _packed(self, samples: bytes) -> EncodedAudio:
        return EncodedAudio(self._pack(samples), len(samples) // 2)
