"""For tests of the load generator: a TextToSpeechService whose answers are scripted, and a clock that only the script
moves, so that what was late, and by how much, is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.calls import Context

RATE_HZ = 24_000
LOUD = (8_000).to_bytes(2, "little", signed=True) + (-8_000).to_bytes(2, "little", signed=True)
Response = tts_pb2.StreamSynthesizeResponse


class ScriptedClock:
    """Seconds that pass only when the script says so; it waits until the client has looked."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._looked = asyncio.Event()

    def __call__(self) -> float:
        self._looked.set()
        return self.now_s

    async def after_look_at(self, sending: Awaitable[None]) -> None:
        """Sends a message and returns when the client has read the clock for it."""
        self._looked.clear()
        await sending
        await self._looked.wait()


@dataclass(frozen=True)
class Chunk:
    """Audio to send, after some time has passed."""

    wait_s: float
    audio_s: float
    silent: bool = False


@dataclass
class Script:
    """What the server does with a text."""

    chunks: tuple[Chunk, ...] = ()
    then: grpc.StatusCode = grpc.StatusCode.OK  # how the stream ends
    summary: bool = True
    after_s: float = 0.0  # wait before the end


class ScriptedService(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Follows the script of the request's text. With a clock it moves that; without one it really waits."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.clock: ScriptedClock | None = None
        self.requests: list[tts_pb2.StreamSynthesizeRequest] = []

    async def StreamSynthesize(self, request: tts_pb2.StreamSynthesizeRequest, context: Context) -> None:
        self.requests.append(request)
        script = self.scripts[request.input.text]
        sent = 0
        for chunk in script.chunks:
            await self._pass(chunk.wait_s)
            if not sent:
                audio_format = tts_pb2.AudioFormat(sample_rate_hertz=RATE_HZ, channel_count=1)
                await self._send(context, Response(header=tts_pb2.SynthesisHeader(audio_format=audio_format)))
            count = round(chunk.audio_s * RATE_HZ)
            content = bytes(2 * count) if chunk.silent else LOUD * (count // 2)
            audio = tts_pb2.AudioChunk(audio_content=content, sample_offset=sent, sample_count=count)
            await self._send(context, Response(audio_chunk=audio))
            sent += count
        await self._pass(script.after_s)
        if script.then is not grpc.StatusCode.OK:
            await context.abort(script.then, "As the script says.")
        if script.summary:
            await self._send(context, Response(summary=_summary(request, sent)))

    async def GetServerInfo(
        self, request: tts_pb2.GetServerInfoRequest, context: Context
    ) -> tts_pb2.GetServerInfoResponse:
        return tts_pb2.GetServerInfoResponse(model_version="scripted/1")

    async def _pass(self, seconds: float) -> None:
        if self.clock is None:
            await asyncio.sleep(seconds)
        else:
            self.clock.now_s += seconds

    async def _send(self, context: Context, message: Response) -> None:
        if self.clock is None:
            await context.write(message)
        else:
            await self.clock.after_look_at(context.write(message))


def _summary(request: tts_pb2.StreamSynthesizeRequest, sent: int) -> tts_pb2.SynthesisSummary:
    codes = rvq_pb2.CodeFrames(frame_count=1, codebook_count=2, codes=b"\1\0\2\0") if request.return_codes else None
    stats = tts_pb2.SynthesisStats(sample_count=sent, context_token_count=len(request.context.turns))
    return tts_pb2.SynthesisSummary(stats=stats, codes=codes)


@dataclass
class ScriptedServer:
    """A running server of `service`."""

    service: ScriptedService
    target: str
    channel: grpc.aio.Channel

    def script(
        self,
        text: str,
        *chunks: Chunk,
        then: grpc.StatusCode = grpc.StatusCode.OK,
        summary: bool = True,
        after_s: float = 0.0,
    ) -> str:
        """Tells what to do with a text; returns it."""
        self.service.scripts[text] = Script(chunks, then, summary, after_s)
        return text
