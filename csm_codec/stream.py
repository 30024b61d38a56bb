"""A decode stream as the codec sees it, and what the codec says about it. Plain values; no torch, no thread."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from csm_bundle.errors import CsmError
from csm_codec.codes import Codes
from csm_codec.lanes import Slot
from csm_codec.resample import Pcm
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.progress import ClipProgress, MarkPoint


@dataclass(frozen=True, slots=True)
class StreamStart:
    """Where a stream starts: at its beginning, or in the middle of one that it continues."""

    first_frame: int = 0  # the first one that is pushed
    first_decoded: int = 0  # of the frames before, only latents are computed
    first_marked: int = 0  # of the frames before, the audio is dropped
    first_sample: int = 0  # the first one that is given out


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place in a stream where another can continue it."""

    point: MarkPoint
    start: StreamStart  # of the stream that does


@dataclass(slots=True, eq=False)
class DecodeStream:
    """One decode stream. Only the thread that steps the codec changes it."""

    slot: Slot
    key_id: str
    start: StreamStart = field(default_factory=lambda: StreamStart())
    checkpoint_frames: int = 0  # between two checkpoints; 0 is none
    pending: deque[Codes] = field(default_factory=deque)  # (codebooks,) each
    finished: bool = False  # no more codes will come
    ended: bool = False  # its slot is free
    num_frames: int = 0  # of the stream so far, those before its start included
    num_samples: int = 0  # likewise, given out
    decode_s: float = 0.0
    watermark_s: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes part in the next step."""
        return not self.ended and (bool(self.pending) or self.finished)

    @property
    def is_catching_up(self) -> bool:
        """Whether its next frame gives no audio and only its latent is needed."""
        return self.num_frames < self.start.first_decoded


@dataclass(frozen=True, slots=True)
class Audio:
    """The next marked samples of a stream. Empty while the embedder waits for more audio."""

    stream: DecodeStream
    pcm: Pcm
    num_frames: int  # decoded so far
    num_new_frames: int  # of them in this step
    checkpoint: Checkpoint | None = None


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
