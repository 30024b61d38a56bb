"""The frames between engine and codec: a buffer, a window that paces decoding, and a chunker for the samples.

It knows no RPC. The buffer is unbounded, so a slow client never holds up the engine. It costs 64 bytes per frame and no
decoding, because frames are decoded only as fast as the client reads. The buffer keeps every frame: after a loss they
are sent again to another engine or codec.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from csm.rvq.v1 import rvq_pb2

from services.common.frames import BYTES_PER_CODE

SlotEvent = Literal["given_back", "taken_again"]


def _ignore(event: SlotEvent) -> None:
    return None


@dataclass(frozen=True, slots=True)
class DecodePacing:
    """How far the codec may run ahead of a caller, and how long a caller that takes nothing keeps its decode slot."""

    ahead_frames: int  # decoded ahead of the caller, in addition to the codec's own latency
    patience_s: float = 2.0  # after this long without progress of the caller the slot is given back
    report: Callable[[SlotEvent], None] = _ignore


class FrameBuffer:
    """The frames of one utterance, in order, all kept. There is one writer."""

    def __init__(self) -> None:
        self.frame_count = 0
        self._messages: list[rvq_pb2.CodeFrames] = []
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, frames: rvq_pb2.CodeFrames) -> None:
        self.frame_count += frames.frame_count
        self._messages.append(frames)
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    def joined(self, codebook_count: int, first_frame: int = 0) -> rvq_pb2.CodeFrames:
        """The frames so far, from `first_frame` on, as one message."""
        codes = b"".join(frames.codes for frames in self._messages)
        whole = rvq_pb2.CodeFrames(frame_count=self.frame_count, codebook_count=codebook_count, codes=codes)
        return _part(whole, first_frame, self.frame_count) if first_frame else whole

    def wake(self) -> None:
        """Makes every iteration call `is_over` again."""
        self._changed.set()

    async def from_frame(
        self, first_frame: int, is_over: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[rvq_pb2.CodeFrames]:
        """All frames from `first_frame` on, waiting for those to come. `first_frame` is at most `frame_count`.

        is_over: ends the iteration when true; called before and after each wait
        """
        position = 0
        while not is_over():
            for frames in self._messages[position:]:
                position += 1
                if (skipped := first_frame - frames.first_frame_index) < frames.frame_count:
                    yield _part(frames, skipped, frames.frame_count) if skipped > 0 else frames
            if position == len(self._messages):
                if self._closed or is_over():  # it may have changed during a yield
                    return
                self._changed.clear()
                await self._changed.wait()


def in_messages(frames: rvq_pb2.CodeFrames, size: int) -> Iterator[rvq_pb2.CodeFrames]:
    """The frames in messages of at most `size` frames."""
    for at in range(0, frames.frame_count, size):
        yield _part(frames, at, min(at + size, frames.frame_count))


def _part(frames: rvq_pb2.CodeFrames, start: int, end: int) -> rvq_pb2.CodeFrames:
    """Frames start..end-1 of a message."""
    frame_bytes = frames.codebook_count * BYTES_PER_CODE
    return rvq_pb2.CodeFrames(
        first_frame_index=frames.first_frame_index + start,
        frame_count=end - start,
        codebook_count=frames.codebook_count,
        codes=frames.codes[start * frame_bytes : end * frame_bytes],
    )


class DecodeWindow:
    """Limits the frames in flight: sent to the codec, and their audio not yet taken by the client."""

    def __init__(self, decode_ahead_frames: int, latency_samples: float, frame_samples: float) -> None:
        """latency_samples: most samples that the codec holds back by design (GetCodecInfo). frame_samples: samples that
        the codec makes of a frame.
        """
        self._held_back_frames = math.ceil(latency_samples / frame_samples)
        self._size: float = decode_ahead_frames + self._held_back_frames
        self._frame_samples = frame_samples
        self._sent_frames = 0
        self._taken_samples = 0
        self._moved = asyncio.Event()

    def begin(self, first_frame: int, sample_offset: int) -> None:
        """Sets where the call starts; 0 by default. If it starts at frame 0, frames may have been sent before."""
        self._sent_frames, self._taken_samples = max(self._sent_frames, first_frame), sample_offset

    async def admit(self, frame_count: int) -> None:
        """Waits until `frame_count` more frames may be sent.

        Returns at once while the codec may be holding back all frames in flight: waiting would never end.
        """
        while self._ahead_frames > self._held_back_frames and self._ahead_frames + frame_count > self._size:
            self._moved.clear()
            await self._moved.wait()
        self._sent_frames += frame_count

    def taken(self, sample_count: int) -> None:
        """The client has taken the utterance's first `sample_count` samples, at least."""
        self._taken_samples = max(self._taken_samples, sample_count)
        self._moved.set()

    def release(self) -> None:
        """Ends every wait, because the codec call is over."""
        self._size = math.inf
        self._moved.set()

    @property
    def is_released(self) -> bool:
        return math.isinf(self._size)

    @property
    def _ahead_frames(self) -> float:
        return self._sent_frames - self._taken_samples / self._frame_samples


class Chunker:
    """Cuts samples into messages of equal length."""

    def __init__(self, chunk_samples: int) -> None:
        """chunk_samples: samples per message; 0 passes samples on as they come."""
        self._chunk_size = 2 * chunk_samples
        self._held = bytearray()

    def push(self, samples: bytes) -> list[bytes]:
        """The messages that are now full. samples: 16-bit"""
        if not self._chunk_size:
            return [samples] if samples else []
        self._held += samples
        full = len(self._held) // self._chunk_size * self._chunk_size
        chunks = [bytes(self._held[at : at + self._chunk_size]) for at in range(0, full, self._chunk_size)]
        del self._held[:full]
        return chunks

    def flush(self) -> list[bytes]:
        """The last message, shorter than the others; none when nothing is left."""
        rest = bytes(self._held)
        self._held.clear()
        return [rest] if rest else []
