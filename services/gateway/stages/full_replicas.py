"""Counts the full replicas that have refused a call. The call is made again at once, because another one may have room.

It opens no call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FullOutcome = Literal["moved", "refused"]


class FullReplicas:
    """The refusals of one call in a row."""

    def __init__(self, most: int, report: Callable[[FullOutcome], None]) -> None:
        """most: how often the call is made again. report: called for each refusal"""
        self._most, self._report = most, report
        self._count = 0

    def moves_on(self) -> bool:
        """Counts one more refusal. Returns whether the call is to be made again."""
        moves = self._count < self._most
        self._count += moves
        self._report("moved" if moves else "refused")
        return moves

    def forget(self) -> None:
        """Starts over: a replica has accepted the call."""
        self._count = 0
