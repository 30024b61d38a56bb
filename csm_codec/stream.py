"""A decode stream as the codec sees it, and what the codec says about it. Plain values; no torch, no thread."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from csm_bundle.errors import CsmError
from csm_codec.codes import Codes
from csm_codec.lanes import Slot
from csm_codec.resample import Pcm
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.progress import ClipProgress


@dataclass(slots=True, eq=False)
class DecodeStream:
    """One decode stream. Only the thread that steps the codec changes it."""

    slot: Slot
    key_id: str
    pending: deque[Codes] = field(default_factory=deque)  # (codebooks,) each
    finished: bool = False  # no more codes will come
    ended: bool = False  # its slot is free
    num_frames: int = 0  # decoded
    num_samples: int = 0  # given out
    decode_s: float = 0.0
    watermark_s: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes part in the next step."""
        return not self.ended and (bool(self.pending) or self.finished)


@dataclass(frozen=True, slots=True)
class Audio:
    """The next marked samples of a stream. Empty while the embedder waits for more audio."""

    stream: DecodeStream
    pcm: Pcm
    num_frames: int  # decoded so far
    num_new_frames: int  # of them in this step, 0 or 1


@dataclass(frozen=True, slots=True)
class Complete:
    """All samples of the stream have been given out."""

    stream: DecodeStream
    coverage: Coverage  # of the clip
    progress: ClipProgress  # where another stream may go on with the clip


@dataclass(frozen=True, slots=True)
class Failed:
    """The stream has ended without its remaining samples."""

    stream: DecodeStream
    error: CsmError


Output = Audio | Complete | Failed
