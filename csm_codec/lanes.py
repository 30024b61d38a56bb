"""Allocates slots to streams. No torch.

A slot is a row of a lane, and a lane is a batch. A step reads the weights once for each lane that has a stream, so a
new stream gets a slot in the fullest lane that has room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from csm_bundle.errors import CodecBusyError


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One row of one lane."""

    lane: int
    row: int
    number: int  # among all slots


class Lanes:
    """The slots of `num_lanes` lanes of `lane_width` rows."""

    def __init__(self, num_lanes: int, lane_width: int) -> None:
        self._lane_width = lane_width
        self.num_slots = num_lanes * lane_width
        self._free = [list(range(lane_width)) for _ in range(num_lanes)]

    def take(self) -> Slot:
        """Raises CodecBusyError when all slots are taken."""
        open_lanes = [lane for lane, rows in enumerate(self._free) if rows]
        if not open_lanes:
            raise CodecBusyError(f"All {self.num_slots} decode slots are taken.")
        lane = min(open_lanes, key=lambda lane: len(self._free[lane]))
        rows = self._free[lane]
        row = min(rows)
        rows.remove(row)
        return Slot(lane, row, lane * self._lane_width + row)

    def leave(self, slot: Slot) -> None:
        if slot.row in self._free[slot.lane]:
            raise ValueError(f"{slot} is free already.")
        self._free[slot.lane].append(slot.row)


def by_lane(slots: Iterable[Slot]) -> dict[int, list[Slot]]:
    """The slots grouped by lane, in order."""
    return {lane: list(group) for lane, group in groupby(sorted(slots), key=lambda slot: slot.lane)}
