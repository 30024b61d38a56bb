"""What a frame step made of a row. The device decides it, the host reads it. No torch."""

from __future__ import annotations

from enum import IntEnum

from csm_engine.types import FinishReason


class Outcome(IntEnum):
    """Last column of a step's result."""

    NOTHING = 0  # the row had ended before this step, or only pads the batch: its codes mean nothing
    FRAME = 1  # a frame, and more to come
    END_OF_SPEECH = 2  # the all-zero frame, which is not part of the speech
    MAX_FRAMES = 3  # the last frame that was asked for
    CONTEXT_WINDOW = 4  # the last frame that has room


FINISH_REASONS = {
    Outcome.END_OF_SPEECH: FinishReason.END_OF_SPEECH,
    Outcome.MAX_FRAMES: FinishReason.MAX_FRAMES,
    Outcome.CONTEXT_WINDOW: FinishReason.CONTEXT_WINDOW,
}
