"""The plain values that requests are made of. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

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
    top_k: int = 50  # ties at the k-th place are all kept
    seed: int = 0  # 0 .. 2**63 - 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One utterance to make: `segments` oldest first, the last one is spoken."""

    request_id: str
    segments: Sequence[Segment]
    max_frames: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
