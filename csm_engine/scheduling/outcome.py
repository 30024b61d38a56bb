"""The outcome of one row of a frame step. The device writes it and the host reads it. No torch."""

from __future__ import annotations

from enum import IntEnum

from csm_engine.types import FinishReason


class Outcome(IntEnum):
    """The value in the last column of a step's result."""

    NOTHING = 0  # the row had ended before this step, or pads the batch: its codes are meaningless
    FRAME = 1  # a frame; the sequence goes on
    END_OF_SPEECH = 2  # the all-zero frame, which is not part of the speech
    MAX_FRAMES = 3  # a frame, the last one that the request allows
    CONTEXT_WINDOW = 4  # a frame, the last one that fits into the context window
    INVALID_FRAME = 5  # a logit was not a number: a code is one that does not exist


FINISH_REASONS: dict[int, FinishReason | None] = {
    Outcome.NOTHING: None,
    Outcome.FRAME: None,
    Outcome.END_OF_SPEECH: FinishReason.END_OF_SPEECH,
    Outcome.MAX_FRAMES: FinishReason.MAX_FRAMES,
    Outcome.CONTEXT_WINDOW: FinishReason.CONTEXT_WINDOW,
    Outcome.INVALID_FRAME: FinishReason.INVALID_FRAME,
}
