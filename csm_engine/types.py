"""The plain values that requests are made of. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from csm_bundle.errors import InvalidRequestError

Codes = npt.NDArray[np.int16]  # (frames, codebooks), frame-major


class FinishReason(Enum):
    """Why a sequence ended."""

    END_OF_SPEECH = "end_of_speech"  # the model made the all-zero frame
    MAX_FRAMES = "max_frames"
    CONTEXT_WINDOW = "context_window"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Segment:
    """One turn: who, what, and how it sounded. The segment to be spoken has no codes."""

    speaker: int
    text: str
    codes: Codes | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How codes are drawn. The same seed gives the same codes, whoever else is in the batch."""

    temperature: float = 0.9  # 0 is greedy
    top_k: int = 50  # ties at the k-th place are all kept; more than there are codes keeps all
    seed: int = 0  # 0 .. 2**63 - 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One utterance to make: `segments` oldest first, the last one is spoken.

    resume: (frames, codebooks) that an interrupted run of this request has already made; the engine goes on after
    them as if it had never stopped. `max_frames` counts them too.
    live: somebody listens while the frames are made, so it is no use to be far ahead; they come in parts of
    `listener_frames`, and nothing of a part is heard before all of it is there.
    """

    request_id: str
    segments: Sequence[Segment]
    max_frames: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    resume: Codes | None = None
    live: bool = False
    listener_frames: int = 1

    def check(self) -> None:
        """Raises: InvalidRequestError naming the first field that is out of range."""
        made = 0 if self.resume is None else len(self.resume)
        sampling = self.sampling
        _require("max_frame_count", self.max_frames > made, self.max_frames, f"more than {made}")
        _require(
            "sampling_params.temperature",
            math.isfinite(sampling.temperature) and sampling.temperature >= 0,
            sampling.temperature,
            "a finite number from 0",
        )
        _require(
            "sampling_params.top_k",
            1 <= sampling.top_k < 2**31,
            sampling.top_k,
            "1 or more",
        )
        _require("sampling_params.seed", 0 <= sampling.seed < 2**63, sampling.seed, "0..2**63-1")
        for index, segment in enumerate(self.segments):
            _require(f"segments[{index}].speaker_id", segment.speaker >= 0, segment.speaker, "0 or more")


def _require(field: str, holds: bool, given: object, allowed: str) -> None:
    if not holds:
        raise InvalidRequestError(field, f"is {given}; allowed is {allowed}")
