"""The full replicas that have refused a call. The call is made again at once, because another one may have room.

It opens no call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from services.gateway.stages.errors import StageError

MAX_REFUSALS = 4  # of one replica, if there may be others that the gateway does not know

FullOutcome = Literal["moved", "refused"]


class FullReplicas:
    """The refusals of one call in a row."""

    def __init__(self, most: int, report: Callable[[FullOutcome], None]) -> None:
        """most: how often the call is made again. report: called for each refusal"""
        self._most, self._report = most, report
        self.forget()

    def moves_on(self, refusal: StageError) -> bool:
        """Counts one more refusal. Returns whether the call is to be made again.

        It is not when every known replica has refused, and one of them MAX_REFUSALS times: another one, which the
        gateway does not know, would have got one of these in 15 of 16 cases. Replicas of older versions have no id.
        """
        self._refusals[refusal.replica] += 1
        is_over = (
            max(self._refusals.values()) >= MAX_REFUSALS
            and "" not in self._refusals
            and refusal.known_replicas <= self._refusals.keys()
        )
        moves = self._count < self._most and not is_over
        self._count += moves
        self._report("moved" if moves else "refused")
        return moves

    def forget(self) -> None:
        """Starts over: a replica has accepted the call."""
        self._count = 0
        self._refusals: Counter[str] = Counter()  # of each replica, by its id
