"""A decode stream and its outputs. Plain values; no torch, no thread."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from csm_bundle.errors import CsmError
from csm_codec.codes import CheckedCodes
from csm_codec.lanes import Slot
from csm_codec.resample import Pcm
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.progress import START, ClipProgress, MarkPoint


@dataclass(frozen=True, slots=True)
class StreamStart:
    """Where a stream starts: at the beginning, or in the middle if it resumes another one."""

    first_frame: int = 0  # first frame to push
    first_decoded: int = 0  # first frame to decode; for those before, only latents are computed
    first_marked: int = 0  # first frame to watermark; the audio of those before is dropped
    first_sample: int = 0  # first sample to return


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What a stream is opened with."""

    key_id: str = ""  # of the watermark; "" is the active key
    before: ClipProgress = START  # progress of the clip after the previous stream, from its Complete
    point: MarkPoint | None = None  # of a stream with the same codes, which this one resumes; replaces `before`
    checkpoint_frames: int = 0  # between two checkpoints; 0 is none
    speed: float = 1.0  # see Stretcher; other speeds than 1 have no checkpoints


DEFAULTS = DecodeOptions()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place where another stream can resume this one."""

    point: MarkPoint
    start: StreamStart  # of the stream that resumes


@dataclass(slots=True, eq=False)
class DecodeStream:
    """One decode stream. Only the thread that steps the codec changes it."""

    slot: Slot
    key_id: str
    start: StreamStart = field(default_factory=lambda: StreamStart())
    checkpoint_frames: int = 0  # between two checkpoints; 0 is none
    pending: deque[CheckedCodes] = field(default_factory=deque)  # (codebooks,) each
    finished: bool = False  # no more codes will come
    ended: bool = False  # its slot is free
    num_frames: int = 0  # decoded so far, those before its start included
    num_samples: int = 0  # returned so far, likewise
    decode_s: float = 0.0
    watermark_s: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes part in the next step."""
        return not self.ended and (bool(self.pending) or self.finished)

    @property
    def is_catching_up(self) -> bool:
        """Whether only the latent of its next frame is needed."""
        return self.num_frames < self.start.first_decoded


@dataclass(frozen=True, slots=True)
class Audio:
    """The next samples of a stream, watermarked. Empty while the embedder needs more audio."""

    stream: DecodeStream
    pcm: Pcm
    num_frames: int  # decoded so far
    num_new_frames: int  # of them, decoded in this step
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """The end of a stream, after all its samples."""

    stream: DecodeStream
    coverage: Coverage  # of the clip
    progress: ClipProgress  # from which another stream can continue the clip


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a stream that lacks its remaining samples."""

    stream: DecodeStream
    error: CsmError


Output = Audio | Complete | Failed
