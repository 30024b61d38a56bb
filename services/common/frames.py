"""Checks of CodeFrames messages without numpy, for stages that only pass codes on. It knows no codec.

Layout of the bytes (csm/rvq/v1/rvq.proto): unsigned 16-bit little-endian, frame by frame, codebook 0 first.
"""

from __future__ import annotations

import sys
from array import array

from csm.rvq.v1 import rvq_pb2

BYTES_PER_CODE = 2


class MalformedFramesError(ValueError):
    """Frames that are not what their own numbers say, or not what comes next in their stream."""


def check_shape(frames: rvq_pb2.CodeFrames, codebook_count: int) -> None:
    """Raises MalformedFramesError unless the bytes hold `frame_count` frames of `codebook_count` codes."""
    if frames.codebook_count != codebook_count:
        raise MalformedFramesError(f"codebook_count is {frames.codebook_count}; it must be {codebook_count}.")
    if frames.frame_count < 1:
        raise MalformedFramesError(f"frame_count is {frames.frame_count}; it must be at least 1.")
    expected = BYTES_PER_CODE * frames.frame_count * codebook_count
    if len(frames.codes) != expected:
        raise MalformedFramesError(
            f"codes holds {len(frames.codes)} bytes; {frames.frame_count} frames of"
            f" {codebook_count} codebooks need {expected}."
        )


def check_utterances(frames: rvq_pb2.CodeFrames) -> None:
    """Raises MalformedFramesError unless the utterances, if there are any, are `frame_count` frames together."""
    counts = [utterance.frame_count for utterance in frames.utterances]
    if counts and (min(counts) < 0 or sum(counts) != frames.frame_count):
        raise MalformedFramesError(
            f"utterances have {sum(counts)} frames together, and the shortest {min(counts)}; together they must have"
            f" frame_count, {frames.frame_count}. Remove the utterances from codes that you cut."
        )


def check_follows(frames: rvq_pb2.CodeFrames, next_frame_index: int) -> None:
    """Raises MalformedFramesError unless `frames` begin at `next_frame_index`: none lost, none doubled."""
    if frames.first_frame_index != next_frame_index:
        raise MalformedFramesError(
            f"first_frame_index is {frames.first_frame_index}; the next frame is {next_frame_index}."
        )


def check_range(frames: rvq_pb2.CodeFrames, codebook_size: int) -> None:
    """Raises MalformedFramesError unless every code is below `codebook_size`. The shape must be checked before."""
    codes = array("H", frames.codes)
    if sys.byteorder == "big":
        codes.byteswap()
    if codes and (largest := max(codes)) >= codebook_size:
        raise MalformedFramesError(f"codes holds {largest}; the largest allowed is {codebook_size - 1}.")
