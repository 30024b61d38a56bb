"""Conversations whose engine has failed to compute, and which therefore go to another one for a while.

Their key alone would lead each of their calls to the same engine again, for as long as it is in gRPC's ring.
"""

from __future__ import annotations

import time
from collections import OrderedDict

MOVED_S = 600.0  # from the last move on; then the engine is probably another process, or has left the ring
MAX_MOVED = 10_000


class MovedConversations:
    """Their keys, at most MAX_MOVED."""

    def __init__(self) -> None:
        self._moves: OrderedDict[str, tuple[int, float]] = OrderedDict()  # number and time of the last; oldest first

    def count(self, conversation: str) -> int:
        """How often the conversation was moved. Each number makes another key of it (balancing.py)."""
        count, moved_at_s = self._moves.get(conversation, (0, 0.0))
        return count if time.monotonic() < moved_at_s + MOVED_S else 0

    def move(self, conversation: str) -> None:
        self._moves[conversation] = (self.count(conversation) + 1, time.monotonic())
        self._moves.move_to_end(conversation)
        if len(self._moves) > MAX_MOVED:
            self._moves.popitem(last=False)
