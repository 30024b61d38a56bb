"""The caller of one stream: it sends a message of frames when it has all samples of the frames before.

The stage also sends signs of life to a stream that waits, so it is the samples that count, not the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.rvq.v1 import rvq_pb2

CODEBOOKS, FRAME_SAMPLES = 32, 1920  # of csm-1b's codec
TIMEOUT_S = 600.0
CONFIG = codec_pb2.StreamDecodeConfig(sample_format=codec_pb2.SAMPLE_FORMAT_S16LE)


class Caller:
    """A stream that has started."""

    def __init__(self, call: Any, samples_after: Sequence[int]) -> None:
        """samples_after: how many samples come, by the number of frames that were sent"""
        self._call, self._samples_after = call, samples_after
        self._sent_frames = self._received_samples = 0

    @classmethod
    async def open(cls, stub: codec_pb2_grpc.CodecServiceStub, samples_after: Sequence[int]) -> Self:
        """Sends the config and waits until the stream has started."""
        call: Any = stub.StreamDecode(timeout=TIMEOUT_S)
        await call.write(codec_pb2.StreamDecodeRequest(config=CONFIG))
        while not (await _next(call)).HasField("started"):
            pass
        return cls(call, samples_after)

    async def frames(self, number: int, in_a_message: int = 1) -> None:
        """Sends so many frames, and takes their samples. number: a multiple of `in_a_message`"""
        for _ in range(number // in_a_message):
            frames = rvq_pb2.CodeFrames(
                first_frame_index=self._sent_frames,
                frame_count=in_a_message,
                codebook_count=CODEBOOKS,
                codes=bytes(2 * CODEBOOKS * in_a_message),
            )
            await self._call.write(codec_pb2.StreamDecodeRequest(frames=frames))
            self._sent_frames += in_a_message
            while self._received_samples < self._samples_after[self._sent_frames]:
                self._received_samples += (await _next(self._call)).audio.sample_count

    async def close(self) -> None:
        """Half-closes and takes the rest. Raises RuntimeError when samples are missing."""
        await self._call.done_writing()
        complete = False
        while not complete:
            response = await _next(self._call)
            self._received_samples += response.audio.sample_count
            complete = response.HasField("complete")
        if self._received_samples != FRAME_SAMPLES * self._sent_frames:
            raise RuntimeError(f"a stream of {self._sent_frames} frames had {self._received_samples} samples")


async def _next(call: Any) -> codec_pb2.StreamDecodeResponse:
    response = await call.read()
    if response is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
        raise RuntimeError(f"a stream ended early: {await call.details()}")
    assert isinstance(response, codec_pb2.StreamDecodeResponse)
    return response
