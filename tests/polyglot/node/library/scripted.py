"""A gateway whose calls go as the text of the request says, and how often each text was asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

from services.common.rpc.status import StatusError, abort
from tests.polyglot.humming_server import FORMAT, audio, summary
from tests.support.network.tts_server import tts_server

Response = tts_pb2.StreamSynthesizeResponse
TextResponse = tts_pb2.StreamSynthesizeTextResponse
FRAMES = 6


class Scripted(tts_pb2_grpc.TextToSpeechServiceServicer):
    """
    "stall"       one frame of a stream, then nothing more; of a unary call nothing at all
    "lost"        one frame, then UNAVAILABLE, at every call
    "lost once"   the first call is lost so; the others have three frames, then nothing more
    "full once"   the first call is refused with QUEUE_FULL
    "garbled"     UNAVAILABLE with a detail that cannot be read
    "no header", "two headers", "after the summary"    messages out of order
    any other     six frames
    """

    def __init__(self, *, stalls: bool = True) -> None:
        """stalls: where the text says so"""
        self._stalls = stalls
        self.calls = Counter[str]()
        self.pieces: list[str] = []
        self.target = ""

    async def Synthesize(self, request: Any, context: Any) -> tts_pb2.SynthesizeResponse:
        text = request.input.text
        self.calls[text] += 1
        await self._refuse(text, context)
        if text == "stall":
            await asyncio.Event().wait()
        return tts_pb2.SynthesizeResponse(voice="ada")

    async def StreamSynthesize(self, request: Any, context: Any) -> AsyncIterator[Response]:
        text = request.input.text
        self.calls[text] += 1
        await self._refuse(text, context)
        header = Response(header=tts_pb2.SynthesisHeader(audio_format=FORMAT, seed=7, voice="ada"))
        for _ in range({"no header": 0, "two headers": 2}.get(text, 1)):
            yield header
        is_first = self.calls[text] == 1
        for number, chunk in enumerate(audio(range(FRAMES))):
            if number == 1 and (text == "lost" or (text == "lost once" and is_first)):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway was lost")
            if self._stalls and (number, text) in ((1, "stall"), (3, "lost once")):
                await asyncio.Event().wait()
            yield chunk
        yield Response(summary=summary(FRAMES))
        if text == "after the summary":
            yield Response(audio_chunk=tts_pb2.AudioChunk(sample_offset=FRAMES * 1920))

    async def StreamSynthesizeText(self, requests: Any, context: Any) -> AsyncIterator[TextResponse]:
        """One frame at once, then the pieces."""
        yield TextResponse(header=tts_pb2.SynthesisHeader(audio_format=FORMAT, seed=7))
        yield TextResponse(audio_chunk=next(audio(range(1))).audio_chunk)
        async for request in requests:
            self.pieces.append(request.text.text)
        yield TextResponse(summary=summary(1))

    async def _refuse(self, text: str, context: Any) -> None:
        if text == "full once" and self.calls[text] == 1:
            await abort(context, StatusError(grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", "Full.", retry_delay_s=0.1))
        if text == "garbled":
            detail = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\x0a\xff")
            status = status_pb2.Status(code=14, message="garbled", details=[detail])
            await context.abort_with_status(rpc_status.to_status(status))


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    service = Scripted()
    async with tts_server(service) as port:
        service.target = f"127.0.0.1:{port}"
        yield service
