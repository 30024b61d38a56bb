"""CodeFrames must have the shape that their numbers say, follow each other, and have codes in range."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from csm.rvq.v1 import rvq_pb2

from services.common import frames


def made(*, count: int = 2, codebooks: int = 4, first: int = 0, largest: int = 2047) -> rvq_pb2.CodeFrames:
    codes = struct.pack(f"<{count * codebooks}H", *([0] * (count * codebooks - 1)), largest)
    return rvq_pb2.CodeFrames(first_frame_index=first, frame_count=count, codebook_count=codebooks, codes=codes)


def test_well_formed_frames_pass() -> None:
    frames.check_shape(made(), 4)
    frames.check_follows(made(first=7), 7)
    frames.check_range(made(), 2048)


@pytest.mark.parametrize(
    "change", [{"codes": b"1234567"}, {"frame_count": 3}, {"frame_count": 0}, {"codebook_count": 3}]
)
def test_wrong_shape_is_refused_with_numbers(change: dict[str, Any]) -> None:
    wrong = made()
    for name, value in change.items():
        setattr(wrong, name, value)
    with pytest.raises(frames.MalformedFramesError, match=r"\d"):
        frames.check_shape(wrong, 4)


def test_gap_and_repeat_are_refused() -> None:
    for index in (6, 8):
        with pytest.raises(frames.MalformedFramesError, match="the next frame is 7"):
            frames.check_follows(made(first=index), 7)


def test_code_out_of_range_is_refused() -> None:
    with pytest.raises(frames.MalformedFramesError, match="2048; the largest allowed is 2047"):
        frames.check_range(made(largest=2048), 2048)
