"""The plain values that requests are made of. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum

import numpy as np
import numpy.typing as npt

from csm_bundle.errors import InvalidRequestError
from csm_bundle.sampling import LIMITS
from csm_bundle.sampling import SamplingParams as SamplingParams  # a request's part, by its own name

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
        """Raises: InvalidRequestError naming the first field of this class that is out of range."""
        made = 0 if self.resume is None else len(self.resume)
        _require("max_frames", self.max_frames > made, self.max_frames, f"more than {made}")
        for name in (item.name for item in fields(self.sampling)):
            limits, value = LIMITS[name], getattr(self.sampling, name)
            kind = "a finite number from" if limits.kind is float else "a whole number of 64 bits from"
            _require(f"sampling.{name}", limits.fit_sampler(value), value, f"{kind} {limits.least}")
        for index, segment in enumerate(self.segments):
            _require(f"segments[{index}].speaker", segment.speaker >= 0, segment.speaker, "0 or more")


def _require(field: str, holds: bool, given: object, allowed: str) -> None:
    if not holds:
        raise InvalidRequestError(field, f"is {given}; allowed is {allowed}")
