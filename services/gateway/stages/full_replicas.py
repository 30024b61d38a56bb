"""The full replicas that have refused a call. The call is made again at once, because another one may have room.

It opens no call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from services.gateway.stages.errors import StageError

FullOutcome = Literal["moved", "refused"]


class FullReplicas:
    """The refusals of one call in a row."""

    def __init__(self, most: int, report: Callable[[FullOutcome], None]) -> None:
        """most: how often the call is made again. report: called for each refusal"""
        self._most, self._report = most, report
        self.forget()

    def moves_on(self, refusal: StageError) -> bool:
        """Counts one more refusal. Returns whether the call is to be made again.

        It is not when one replica has refused twice, which shows that the calls do not always reach another one, and
        every known replica has refused. Replicas of an older version do not say who they are.
        """
        self._has_repeated |= refusal.replica in self._refused
        self._refused.add(refusal.replica)
        is_over = self._has_repeated and "" not in self._refused and refusal.known_replicas <= self._refused
        moves = self._count < self._most and not is_over
        self._count += moves
        self._report("moved" if moves else "refused")
        return moves

    def forget(self) -> None:
        """Starts over: a replica has accepted the call."""
        self._count = 0
        self._refused: set[str] = set()
        self._has_repeated = False
