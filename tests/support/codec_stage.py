"""For tests of csm.codec.v1: a running stage, requests with random codes in messages of any size, and responses.

The codes are for the tiny Mimi of tests/services/codec: 4 codebooks of 64 entries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.rvq.v1 import rvq_pb2

from csm_codec.codes import CheckedCodes
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage, start_codec
from services.common.rpc.status import StatusError, from_rpc_error

F32, S16 = codec_pb2.SAMPLE_FORMAT_F32LE, codec_pb2.SAMPLE_FORMAT_S16LE
FRAMES = 16  # more than Mimi's attention spans in that bundle, and five of its watermark's messages


@asynccontextmanager
async def running_codec(settings: CodecSettings, **changes: Any) -> AsyncIterator[tuple[CodecStage, Any]]:
    """A running stage and a stub to call it. changes: settings to replace."""
    stage = await start_codec(settings.model_copy(update=changes))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
            stub: Any = codec_pb2_grpc.CodecServiceStub(channel)  # type: ignore[no-untyped-call]
            yield stage, stub
    finally:
        await stage.stop()


def random_codes(frames: int = FRAMES, seed: int = 0) -> CheckedCodes:
    return np.random.default_rng(seed).integers(0, 64, (frames, 4))


def frames_message(codes: CheckedCodes, first: int = 0) -> codec_pb2.StreamDecodeRequest:
    return codec_pb2.StreamDecodeRequest(
        frames=rvq_pb2.CodeFrames(
            first_frame_index=first,
            frame_count=codes.shape[0],
            codebook_count=codes.shape[1],
            codes=codes.astype("<u2").tobytes(),
        )
    )


def config_message(**fields: Any) -> codec_pb2.StreamDecodeRequest:
    return codec_pb2.StreamDecodeRequest(config=codec_pb2.StreamDecodeConfig(**{"sample_format": F32, **fields}))


def stream_of(codes: CheckedCodes, sizes: list[int], **config: Any) -> list[codec_pb2.StreamDecodeRequest]:
    """The config, then the codes in messages of those numbers of frames; the last size is repeated to the end."""
    requests, start = [config_message(**config)], 0
    sizes = list(sizes)
    while start < len(codes):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        requests.append(frames_message(codes[start : start + size], start))
        start += size
    return requests


def recording_messages(method: str, samples: bytes, size: int, **config: Any) -> list[Any]:
    """The config, then the samples in messages of `size` bytes. method: StreamEncode or StreamDetectWatermark."""
    message = getattr(codec_pb2, f"{method}Request")
    first = message(config={"sample_format": F32, "sample_rate_hertz": 24000, **config})
    return [first, *(message(samples=samples[start : start + size]) for start in range(0, len(samples), size))]


async def decode(
    stub: Any, requests: list[codec_pb2.StreamDecodeRequest]
) -> tuple[bytes, codec_pb2.StreamDecodeComplete]:
    """Decodes a stream. Returns its samples and the closing message; asserts that the audio has no gap."""
    samples, complete, position = b"", None, 0
    async for response in stub.StreamDecode(iter(requests)):
        assert complete is None
        if response.WhichOneof("event") in ("started", "progress"):
            continue
        if response.WhichOneof("event") == "complete":
            complete = response.complete
            continue
        assert response.audio.sample_offset == position
        position += response.audio.sample_count
        samples += response.audio.samples
    assert complete is not None and complete.sample_count == position
    return samples, complete


async def refusal(call: Awaitable[Any]) -> StatusError:
    """The status of a call, which must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("The call went through.")
