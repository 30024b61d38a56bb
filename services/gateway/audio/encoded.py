"""The interface of encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """The next bytes of a stream, possibly none."""

    content: bytes
    sample_count: int  # samples that these bytes add, at the rate of the encoding


class AudioEncoder(Protocol):
    """Encodes the mono 16-bit samples of one stream. The bytes do not depend on how the samples are cut into pieces."""

    def push(self, samples: bytes) -> EncodedAudio: ...

    def finish(self) -> EncodedAudio:
        """The rest. To be called once, at the end."""
