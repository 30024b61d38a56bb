"""For tests of the load generator: a TextToSpeechService with scripted answers, and a clock that the script moves.

With that clock the client measures exact times.
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
    """The client's clock, in seconds. Its time passes only when the script says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._was_read = asyncio.Event()

    def __call__(self) -> float:
        self._was_read.set()
        return self.now_s

    async def until_read_after(self, sending: Awaitable[None]) -> None:
        """Sends a message, and returns when the client has read the clock for it."""
        self._was_read.clear()
        await sending
        await self._was_read.wait()


@dataclass(frozen=True)
class Chunk:
    """A message of audio, sent `wait_s` after the message before it."""

    wait_s: float
    audio_s: float
    silent: bool = False


@dataclass
class Script:
    """What the server answers to a text."""

    chunks: tuple[Chunk, ...] = ()
    then: grpc.StatusCode = grpc.StatusCode.OK  # how the stream ends
    summary: bool = True
    after_s: float = 0.0  # wait after the last chunk


class ScriptedService(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Follows the script of the request's text. It moves `clock` instead of waiting; without one it waits."""

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
            await self.clock.until_read_after(context.write(message))


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
        """Sets the script of a text. Returns the text."""
        self.service.scripts[text] = Script(chunks, then, summary, after_s)
        return text
