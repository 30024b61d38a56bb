"""Who sits where, and who takes part in the next tick. Policy only: it computes nothing and knows no tensor.

Seats are rows of lanes. A lane costs the same with one stream in it as with all rows taken, so newcomers go to the
fullest lane that has room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from csm_bundle.errors import CodecBusyError


@dataclass(frozen=True, slots=True, order=True)
class Seat:
    """One row of one lane."""

    lane: int
    row: int
    number: int  # among all seats


class Lanes:
    """The seats of `num_lanes` lanes of `lane_width` rows."""

    def __init__(self, num_lanes: int, lane_width: int) -> None:
        self._lane_width = lane_width
        self.num_seats = num_lanes * lane_width
        self._free = [list(range(lane_width)) for _ in range(num_lanes)]

    @property
    def num_taken(self) -> int:
        return self.num_seats - sum(len(rows) for rows in self._free)

    def take(self) -> Seat:
        """Raises CodecBusyError when all seats are taken."""
        open_lanes = [lane for lane, rows in enumerate(self._free) if rows]
        if not open_lanes:
            raise CodecBusyError(f"All {self.num_seats} decode slots are taken.")
        lane = min(open_lanes, key=lambda lane: len(self._free[lane]))
        rows = self._free[lane]
        row = min(rows)
        rows.remove(row)
        return Seat(lane, row, lane * self._lane_width + row)

    def leave(self, seat: Seat) -> None:
        if seat.row in self._free[seat.lane]:
            raise ValueError(f"{seat} is free already.")
        self._free[seat.lane].append(seat.row)


def by_lane(seats: Iterable[Seat]) -> dict[int, list[Seat]]:
    """The seats of each lane that has any, in order: one entry per batch of a tick."""
    lanes: dict[int, list[Seat]] = {}
    for seat in sorted(seats):
        lanes.setdefault(seat.lane, []).append(seat)
    return lanes
