"""The frames between engine and codec: a buffer, a window that paces decoding, and a chunker for the samples.

It knows no RPC. The buffer has no limit of its own, so a slow client never holds up the engine. Such a client costs
64 bytes a frame and no decoding, because frames are decoded only as fast as the client reads. The buffer keeps every
frame: after a loss they are sent again to another engine or codec.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

from csm.rvq.v1 import rvq_pb2


class FrameBuffer:
    """The frames of one utterance, in order, all kept. There is one writer. Each iteration starts at frame 0."""

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

    def joined(self, codebook_count: int) -> rvq_pb2.CodeFrames:
        """All frames so far as one message."""
        codes = b"".join(frames.codes for frames in self._messages)
        return rvq_pb2.CodeFrames(frame_count=self.frame_count, codebook_count=codebook_count, codes=codes)

    async def __aiter__(self) -> AsyncIterator[rvq_pb2.CodeFrames]:
        position = 0
        while True:
            for frames in self._messages[position:]:
                position += 1
                yield frames
            if position == len(self._messages):
                if self._closed:
                    return
                self._changed.clear()
                await self._changed.wait()


class DecodeWindow:
    """Limits the frames that the codec holds ahead of the client: sent, but their audio is not yet taken."""

    def __init__(self, decode_ahead_frames: int, latency_samples: float, frame_samples: float) -> None:
        """latency_samples: most audio that the codec holds back by design, in samples (GetCodecInfo). frame_samples:
        that the codec makes of a frame
        """
        self._held_back_frames = math.ceil(latency_samples / frame_samples)
        self._size: float = decode_ahead_frames + self._held_back_frames
        self._frame_samples = frame_samples
        self._sent_frames = 0
        self._taken_samples = 0
        self._moved = asyncio.Event()

    async def admit(self, frame_count: int) -> None:
        """Waits until `frame_count` more frames may be sent.

        Returns at once while the codec may be holding back all frames that are ahead: waiting would never end.
        """
        while self._ahead_frames > self._held_back_frames and self._ahead_frames + frame_count > self._size:
            self._moved.clear()
            await self._moved.wait()
        self._sent_frames += frame_count

    def taken(self, sample_count: int) -> None:
        """The client has taken these samples."""
        self._taken_samples += sample_count
        self._moved.set()

    def release(self) -> None:
        """Ends every wait: the codec call is over, and the next write meets its end."""
        self._size = math.inf
        self._moved.set()

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
