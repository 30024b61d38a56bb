"""Messages get larger as the listener's playout lead grows, and never cause an underrun."""

from __future__ import annotations

import sys

import pytest

from csm_engine.scheduling.admission import FRAME_SECONDS
from services.common.coalesce import Coalescer


def test_the_first_message_has_the_requested_number_of_frames() -> None:
    assert Coalescer(first=1, most=8, frame_s=FRAME_SECONDS).next_count(now=100.0) == 1
    assert Coalescer(first=3, most=8, frame_s=FRAME_SECONDS).limit == 3


def test_slow_engine_sends_every_frame_at_once() -> None:
    coalescer = Coalescer(first=1, most=8, frame_s=FRAME_SECONDS)
    for frame in range(20):
        now = frame * 2 * FRAME_SECONDS  # half of real time
        assert coalescer.next_count(now) == 1
        coalescer.sent(1, now)


def test_the_greatest_speed_that_the_engine_takes_is_no_failure() -> None:
    coalescer = Coalescer(first=1, most=8, frame_s=FRAME_SECONDS, speed=sys.float_info.max)
    coalescer.sent(1, now=0.0)
    assert coalescer.next_count(now=1.0) == 1


@pytest.mark.parametrize(("frames_per_second", "speed"), [(13, 1.0), (20, 1.0), (50, 1.0), (250, 1.0), (50, 2.0)])
def test_coalescing_causes_no_underrun(frames_per_second: int, speed: float) -> None:
    """Frames are made at a steady rate above real time; each message is sent when its last frame is made."""
    coalescer, made, messages = Coalescer(first=1, most=32, frame_s=FRAME_SECONDS, speed=speed), 0, 0
    now = 0.0
    while made < 1000:
        count = coalescer.next_count(now)
        made += count
        now = max(now, made / frames_per_second)
        played_out_at = (made - count) * FRAME_SECONDS / speed + 1 / frames_per_second
        assert messages == 0 or now <= played_out_at + 1e-9
        coalescer.sent(count, now)
        messages += 1
    if frames_per_second >= 50:
        assert messages < 100  # instead of 1000


def test_messages_stay_within_the_limit() -> None:
    coalescer = Coalescer(first=1, most=4, frame_s=FRAME_SECONDS)
    coalescer.sent(1000, now=0.0)
    assert coalescer.next_count(now=0.0) == coalescer.limit == 4
