"""The other stages as the gateway sees them: seams of one method each, and the same over gRPC.

A call ends with its iterator: closing it, a cancel and a failure all cancel the RPC, which frees the slot or the decode
state on the other side. Deadline and request id are passed by hand. Failures are StageErrors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from services.common.rpc.channel import call_metadata
from services.gateway.stages.errors import StageName, broken, from_stage, unreachable
from services.gateway.stages.reloading_channel import ReloadingChannel, Stub


class Generates(Protocol):
    def generate(
        self, request: engine_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncGenerator[engine_pb2.GenerateResponse, None]: ...


class Decodes(Protocol):
    def decode(
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], timeout_s: float
    ) -> AsyncGenerator[codec_pb2.StreamDecodeResponse, None]: ...


class Encodes(Protocol):
    async def encode(self, request: codec_pb2.EncodeRequest, timeout_s: float) -> codec_pb2.EncodeResponse: ...


class Detects(Protocol):
    async def detect(
        self, config: codec_pb2.StreamDetectWatermarkConfig, samples: AsyncIterator[bytes], timeout_s: float
    ) -> codec_pb2.DetectWatermarkResponse: ...


class DescribesModel(Protocol):
    async def model_info(
        self, timeout_s: float, *, wait_for_ready: bool = False
    ) -> engine_pb2.GetModelInfoResponse: ...


class DescribesCodec(Protocol):
    async def codec_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> codec_pb2.GetCodecInfoResponse: ...


class GrpcEngine:
    """Engine replicas."""

    def __init__(self, channel: ReloadingChannel[engine_pb2_grpc.EngineServiceStub]) -> None:
        self._channel = channel

    async def generate(
        self, request: engine_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncGenerator[engine_pb2.GenerateResponse, None]:
        async with _calling("ENGINE", self._channel) as stub:
            call = stub.Generate(request, timeout=timeout_s, metadata=call_metadata())
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def model_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> engine_pb2.GetModelInfoResponse:
        """wait_for_ready: waits for a replica where there is none."""
        request = engine_pb2.GetModelInfoRequest()
        async with _calling("ENGINE", self._channel) as stub:
            answer: engine_pb2.GetModelInfoResponse = await stub.GetModelInfo(
                request, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=wait_for_ready
            )
            return answer


class GrpcCodec:
    """Codec replicas."""

    def __init__(self, channel: ReloadingChannel[codec_pb2_grpc.CodecServiceStub]) -> None:
        self._channel = channel

    async def decode(
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], timeout_s: float
    ) -> AsyncGenerator[codec_pb2.StreamDecodeResponse, None]:
        """The library writes `requests` in a task of its own, so that neither side waits for the other's reading.

        When that task meets the end of the call, it cancels the call; this is told from a cancel of our own task.
        """
        async with _calling("CODEC", self._channel) as stub:
            call = stub.StreamDecode(requests, timeout=timeout_s, metadata=call_metadata())
            try:
                async for response in call:
                    yield response
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise unreachable("CODEC") from None
            finally:
                call.cancel()

    async def encode(self, request: codec_pb2.EncodeRequest, timeout_s: float) -> codec_pb2.EncodeResponse:
        async with _calling("CODEC", self._channel) as stub:
            answer: codec_pb2.EncodeResponse = await stub.Encode(request, timeout=timeout_s, metadata=call_metadata())
            return answer

    async def detect(
        self, config: codec_pb2.StreamDetectWatermarkConfig, samples: AsyncIterator[bytes], timeout_s: float
    ) -> codec_pb2.DetectWatermarkResponse:
        """Sends no samples before the codec has begun: the status of a refusal would be lost in the writes."""
        message = codec_pb2.StreamDetectWatermarkRequest
        async with _calling("CODEC", self._channel) as stub:
            call = stub.StreamDetectWatermark(timeout=timeout_s, metadata=call_metadata())
            try:
                await call.write(message(config=config))
                await call.read()  # that it has started, or raises why not
                async for piece in samples:
                    if call.done():
                        break  # it has a status, which the next read raises
                    await call.write(message(samples=piece))
                else:
                    await call.done_writing()
                answer = await call.read()
            except asyncio.InvalidStateError:  # a write came after the end of the call
                answer = await call.read()
            finally:
                call.cancel()
            if answer is grpc.aio.EOF or answer.WhichOneof("event") != "complete":  # type: ignore[attr-defined]
                raise broken("CODEC", "a search for the watermark ended without an answer")
            complete: codec_pb2.DetectWatermarkResponse = answer.complete
            return complete

    async def codec_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> codec_pb2.GetCodecInfoResponse:
        """wait_for_ready: waits for a replica where there is none."""
        request = codec_pb2.GetCodecInfoRequest()
        async with _calling("CODEC", self._channel) as stub:
            answer: codec_pb2.GetCodecInfoResponse = await stub.GetCodecInfo(
                request, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=wait_for_ready
            )
            return answer


@asynccontextmanager
async def _calling(stage: StageName, channel: ReloadingChannel[Stub]) -> AsyncIterator[Stub]:
    """The stub for one call, whose failure is a StageError."""
    async with channel.call() as stub:
        try:
            yield stub
        except grpc.aio.AioRpcError as error:
            raise from_stage(stage, error) from None
