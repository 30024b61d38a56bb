"""A request inside the engine: where it is, what it has made, why it ended. No torch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from csm_engine.model.prompt import Prompt, Rows
from csm_engine.types import Codes, FinishReason, GenerationRequest


class SequenceStatus(Enum):
    WAITING = "waiting"  # for a slot
    PREFILLING = "prefilling"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False, slots=True)
class Sequence:
    """Positions: the prompt's rows, then one for every frame but the last."""

    request: GenerationRequest
    prompt: Prompt
    status: SequenceStatus = SequenceStatus.WAITING
    slot: int | None = None
    prefilled: int = 0  # prompt rows whose keys and values are in the cache
    reused: int = 0  # of those, rows that were there already
    restored: int = 0  # of those, rows that came back from host memory
    num_frames: int = 0  # made so far, an interrupted run's included
    frames: list[Codes] = field(default_factory=list)  # made by this run, (K,) each
    steps: int = 0  # frame steps read, the one that found the end of speech included; one more may be on its way
    finish_reason: FinishReason | None = None
    launched: int = 0  # frame steps launched, those that are not read yet included
    first_frame_at: float | None = None  # when the first frame of this run was there, by the engine's clock
    arrived_at: float = field(default_factory=time.monotonic)  # seconds
    admitted_at: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    backbone_seconds: float = 0.0
    depth_decoder_seconds: float = 0.0
    resumed_frames: int = 0

    @property
    def rows_to_prefill(self) -> int:
        """All but the last row, which enters as the first frame step's input."""
        return len(self.prompt) - 1 - self.prefilled

    @property
    def next_position(self) -> int:
        """Position that the next frame step writes."""
        return len(self.prompt) - 1 + self.num_frames - self.resumed_frames

    def count_step(self, seconds: float, stages: dict[str, float]) -> None:
        """A frame step of this sequence took that long, and each of its stages."""
        self.steps += 1
        self.decode_seconds += seconds
        self.backbone_seconds += stages.get("backbone", 0.0)
        self.depth_decoder_seconds += stages.get("depth_decoder", 0.0)

    def cached_rows(self) -> Rows:
        """(T, K + 1) int32: what the slot's keys and values stand for. A frame step feeds what the last one made.

        A step that is on its way is not counted: what it writes lies behind these rows.
        """
        prompt = self.prompt.rows()
        if not self.steps:
            return prompt[: self.prefilled]
        fed = self.frames[: self.steps - 1]
        if not fed:
            return prompt
        rows = np.full((len(fed), prompt.shape[1]), -1, dtype=np.int32)
        rows[:, :-1] = fed
        return np.concatenate([prompt, rows])

    def finish(self, reason: FinishReason) -> None:
        self.status = SequenceStatus.FINISHED
        self.finish_reason = reason
