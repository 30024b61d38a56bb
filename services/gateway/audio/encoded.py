"""What every encoder gives: bytes, and how much sound they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """The next bytes of a stream; both are zero when there is nothing to give yet."""

    content: bytes
    sample_count: int  # samples, at the rate of the encoding, that these bytes add


class AudioEncoder(Protocol):
    """Takes the mono 16-bit samples of one utterance in any pieces; how they are cut changes nothing in the bytes."""

    def push(self, samples: bytes) -> EncodedAudio: ...

    def finish(self) -> EncodedAudio:
        """The rest. Once, at the end."""
