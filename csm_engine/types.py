"""The values that a request consists of. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum

import numpy as np
import numpy.typing as npt

from csm_bundle.errors import InvalidRequestError
from csm_bundle.sampling import LARGEST_INTEGER, LIMITS
from csm_bundle.sampling import SamplingParams as SamplingParams  # re-exported: part of a request

Codes = npt.NDArray[np.int16]  # (frames, codebooks), frame-major


class FinishReason(Enum):
    """Why a sequence ended."""

    END_OF_SPEECH = "end_of_speech"  # the model produced the all-zero frame
    MAX_FRAMES = "max_frames"
    CONTEXT_WINDOW = "context_window"
    CANCELLED = "cancelled"
    INVALID_FRAME = "invalid_frame"  # the model computed what is no number; not part of the speech


@dataclass(frozen=True, slots=True)
class Segment:
    """One turn of the conversation: speaker, text, and its audio as codes. The segment to speak has no codes."""

    speaker: int
    text: str
    codes: Codes | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One utterance to generate. segments: oldest first; the last one is spoken.

    max_frames: most frames to generate, those of `resume` included.
    resume: (frames, codebooks) codes that an interrupted run of this request has generated. The engine continues after
    them as if it had never stopped.
    live: the audio is played while it is generated, so pacing may pause the sequence.
    listener_frames: frames per message of a live stream. A message is played only when it is complete.
    speed: playback speed, used for pacing only; 2 is twice as fast.
    pinned_segments: number of leading segments that are never dropped to make room.
    has_listener: the request continues audio that is being played, such as the next sentence of a text. It is scheduled
    before requests without a listener.
    playout_lead_s: with a listener, seconds of audio generated and not played yet; negative when playback has already
    run dry, by the seconds since then.
    is_followed: another request of the same call, with a listener, arrives as soon as this one ends.
    """

    request_id: str
    segments: Sequence[Segment]
    max_frames: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    resume: Codes | None = None
    live: bool = False
    listener_frames: int = 1
    speed: float = 1.0
    pinned_segments: int = 0
    has_listener: bool = False
    playout_lead_s: float = 0.0
    is_followed: bool = False

    def check(self) -> None:
        """Raises: InvalidRequestError naming the first field of this class that is out of range."""
        made = 0 if self.resume is None else len(self.resume)
        in_context = max(0, len(self.segments) - 1)
        _require("pinned_segments", 0 <= self.pinned_segments <= in_context, self.pinned_segments, f"0 to {in_context}")
        fits = made < self.max_frames <= LARGEST_INTEGER
        _require("max_frames", fits, self.max_frames, f"more than {made}, in 64 bits")
        _require("speed", 0 < self.speed < math.inf, self.speed, "a finite number above 0")
        for name in (item.name for item in fields(self.sampling)):
            limits, value = LIMITS[name], getattr(self.sampling, name)
            kind = "a finite number from" if limits.kind is float else "a whole number of 64 bits from"
            _require(f"sampling.{name}", limits.fit_sampler(value), value, f"{kind} {limits.least}")
        for index, segment in enumerate(self.segments):
            _require(f"segments[{index}].speaker", segment.speaker >= 0, segment.speaker, "0 or more")


def _require(field: str, holds: bool, given: object, allowed: str) -> None:
    if not holds:
        raise InvalidRequestError(field, f"is {given}; allowed is {allowed}")
