"""A call that full replicas refuse is made again at once, so many times in a row: another one may have room.

It opens no call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FullOutcome = Literal["moved", "refused"]


class FullReplicas:
    """Those that have refused one call, one after the other."""

    def __init__(self, most: int, report: Callable[[FullOutcome], None]) -> None:
        """most: times that the call is made again. report: called for each refusal"""
        self._most, self._report = most, report
        self._count = 0

    def moves_on(self) -> bool:
        """Whether the call that one more has refused is made again."""
        moves = self._count < self._most
        self._count += moves
        self._report("moved" if moves else "refused")
        return moves

    def forget(self) -> None:
        """One has taken the call."""
        self._count = 0
