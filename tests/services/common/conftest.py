"""A small real stage for tests of the common parts: a codec service whose behaviour the tests choose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc

from services.common.rpc.server import StageServer, StageService
from services.common.settings import StageSettings

InfoHandler = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[codec_pb2.GetCodecInfoResponse]]


class ScriptedCodec(codec_pb2_grpc.CodecServiceServicer):
    """GetCodecInfo does what the test says; StreamDecode answers each request, then `complete`, as a generator."""

    def __init__(self) -> None:
        self.on_info: InfoHandler | None = None
        self.decode_ended_with: list[str] = []

    async def GetCodecInfo(self, request: Any, context: Any) -> Any:
        return await self.on_info(context) if self.on_info else codec_pb2.GetCodecInfoResponse(notice="fine")

    async def StreamDecode(self, request_iterator: Any, context: Any) -> Any:
        try:
            async for _ in request_iterator:
                yield codec_pb2.StreamDecodeResponse(audio=codec_pb2.AudioSamples(samples=b"ab"))
            # A cancelled call ends its requests as a half-close does; the write after it tells the difference.
            yield codec_pb2.StreamDecodeResponse(complete=codec_pb2.StreamDecodeComplete())
        except BaseException as error:
            self.decode_ended_with.append(type(error).__name__)
            raise
        self.decode_ended_with.append("end")


@dataclass
class RunningStage:
    codec: ScriptedCodec
    server: StageServer
    channel: grpc.aio.Channel
    health_channel: grpc.aio.Channel

    @property
    def stub(self) -> codec_pb2_grpc.CodecServiceStub:
        return codec_pb2_grpc.CodecServiceStub(self.channel)


SERVICE_NAME = "csm.codec.v1.CodecService"


@pytest.fixture
async def stage() -> AsyncIterator[RunningStage]:
    codec = ScriptedCodec()
    settings = StageSettings(host="127.0.0.1", max_receive_message_bytes=1 << 20)
    add = codec_pb2_grpc.add_CodecServiceServicer_to_server
    server = StageServer(settings, [StageService(add, codec, SERVICE_NAME)])
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as health_channel,
    ):
        yield RunningStage(codec, server, channel, health_channel)
    await server.drain(0)
