"""Which slot and lane a stream gets."""

from __future__ import annotations

import pytest

from csm_bundle.errors import CodecBusyError
from csm_codec.lanes import Lanes, Slot, by_lane


def test_new_streams_fill_a_started_lane_first() -> None:
    lanes = Lanes(num_lanes=3, lane_width=2)
    assert [lanes.take() for _ in range(3)] == [Slot(0, 0, 0), Slot(0, 1, 1), Slot(1, 0, 2)]
    lanes.leave(Slot(0, 0, 0))
    lanes.leave(Slot(1, 0, 2))
    assert lanes.take() == Slot(0, 0, 0)
    assert len([lanes.take() for _ in range(4)]) == 4, "two are taken"
    with pytest.raises(CodecBusyError):
        lanes.take()


def test_a_full_codec_is_refused_with_the_number_of_slots() -> None:
    lanes = Lanes(num_lanes=2, lane_width=1)
    taken = [lanes.take(), lanes.take()]
    with pytest.raises(CodecBusyError, match="All 2 decode slots"):
        lanes.take()
    lanes.leave(taken[1])
    assert lanes.take() == taken[1]


def test_releasing_a_slot_twice_is_an_error() -> None:
    lanes = Lanes(num_lanes=1, lane_width=1)
    slot = lanes.take()
    lanes.leave(slot)
    with pytest.raises(ValueError, match="free already"):
        lanes.leave(slot)


def test_only_lanes_with_ready_streams_are_computed() -> None:
    a, b, c = Slot(0, 0, 0), Slot(0, 1, 1), Slot(2, 1, 5)
    assert by_lane([c, b, a]) == {0: [a, b], 2: [c]}
