"""A sequence: one request inside the engine, with its status, its frames and its times. No torch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from csm_engine.kv.prefix import Prefix
from csm_engine.model.prompt import Prompt, Rows, audio_rows
from csm_engine.types import Codes, FinishReason, GenerationRequest


class SequenceStatus(Enum):
    WAITING = "waiting"  # has no slot yet
    PREFILLING = "prefilling"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False, slots=True)
class Sequence:
    """One request's state in the engine. Times are in seconds.

    Its cache positions are those of the prompt's rows, then one for each frame but the last.
    """

    request: GenerationRequest
    prompt: Prompt
    status: SequenceStatus = SequenceStatus.WAITING
    slot: int | None = None
    prefilled: int = 0  # prompt rows whose keys and values are in the cache
    reused: int = 0  # prompt rows of `prefilled` that needed no prefill
    restored: int = 0  # prompt rows of `reused` that came from host memory
    num_frames: int = 0  # frames made so far, `resumed_frames` included
    resumed_frames: int = 0  # frames of an interrupted run of the request
    frames: list[Codes] = field(default_factory=list)  # frames made by this run, (K,) int16 each
    steps_launched: int = 0  # frame steps, those in flight included
    steps_read: int = 0  # frame steps whose results the host has, also one that ended the speech without a frame
    finish_reason: FinishReason | None = None
    first_frame_at: float | None = None  # seconds by the engine's clock, when this run's first frame was read
    arrived_at: float = field(default_factory=time.monotonic)
    admitted_at: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    backbone_seconds: float = 0.0
    depth_decoder_seconds: float = 0.0
    _reusable: Prefix | None = None

    @property
    def reusable(self) -> Prefix:
        """The rows that may be reused from the cache: all but the last, which the first frame step must run."""
        if self._reusable is None:
            self._reusable = Prefix(self.prompt.rows[:-1])
        return self._reusable

    @property
    def underrun_at(self) -> float:
        """When playback of the audio that the request continues runs dry, by the clock of `arrived_at`."""
        return self.arrived_at + self.request.playout_lead_s

    @property
    def rows_to_prefill(self) -> int:
        """Prompt rows not yet prefilled, without the last one, which the first frame step runs."""
        return len(self.prompt) - 1 - self.prefilled

    @property
    def next_position(self) -> int:
        """The cache position that the next frame step writes."""
        return len(self.prompt) - 1 + self.num_frames - self.resumed_frames

    def count_step(self, seconds: float, stages: dict[str, float]) -> None:
        """Records a frame step: its seconds, and the seconds of each stage by name."""
        self.steps_read += 1
        self.decode_seconds += seconds
        self.backbone_seconds += stages.get("backbone", 0.0)
        self.depth_decoder_seconds += stages.get("depth_decoder", 0.0)

    def cached_rows(self) -> Rows:
        """The inputs whose keys and values are in the slot: (T, K + 1) int32, -1 where masked.

        The first frame step's input is the prompt's last row, that of a later one the frame before it. Steps in flight
        are not counted: they write to later positions. None after a frame that was invalid: they may be why.
        """
        prompt = self.prompt.rows
        if self.finish_reason is FinishReason.INVALID_FRAME:
            return prompt[:0]
        if not self.steps_read:
            return prompt[: self.prefilled]
        inputs = self.frames[: self.steps_read - 1]
        if not inputs:
            return prompt
        return np.concatenate([prompt, audio_rows(np.stack(inputs))])

    def finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason  # first: a thread that reads FINISHED then finds a reason
        self.status = SequenceStatus.FINISHED
