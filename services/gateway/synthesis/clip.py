"""One clip: the audio of one call, which the codec marks as a whole. It holds one utterance or several.

It knows no RPC.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


class Playout:
    """What the caller still has to play of the clip, if it plays each piece as soon as that is made."""

    def __init__(self) -> None:
        self._ends_at_s = 0.0  # on the monotonic clock

    def begin(self) -> None:
        """An utterance begins. Until now nobody has waited for its sound."""
        self._ends_at_s = max(self._ends_at_s, time.monotonic())

    def add(self, seconds: float) -> None:
        """More sound has been made."""
        self._ends_at_s = max(self._ends_at_s, time.monotonic()) + seconds

    @property
    def lead_s(self) -> float:
        """Seconds of sound; negative when the caller has waited for more for so long."""
        return self._ends_at_s - time.monotonic()


@dataclass(slots=True)
class Clip:
    """The state of a clip between two utterances.

    Utterances are decoded one after the other. Each continues from `resume`, possibly at another replica.
    """

    resume: bytes = b""  # codec state after the last whole utterance; empty before it, and from an older codec
    continues: bool = False  # another utterance may follow the current one
    key_id: str = ""  # of the mark, for a clip that another gateway began; "" is the codec's active key
    playout: Playout = field(default_factory=Playout)  # of what this gateway has had made
