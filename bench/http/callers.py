"""Callers of both doors with little overhead: bare stubs, and HTTP over bare sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
from csm.v1 import tts_pb2_grpc
from csm_client.requests import stream_request

TEXT = "Hello from the other side."
TIMEOUT_S = 300.0
SEED = 7  # so that a real engine does the same work for both doors


class GrpcCaller:
    """A caller over gRPC, with one channel to the gateway."""

    def __init__(self, target: str, most_s: float) -> None:
        """most_s: longest audio"""
        self._most_s = most_s
        self._channel = grpc.aio.insecure_channel(target)
        self._stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(self._channel)

    async def first_audio_s(self) -> float:
        """Seconds until the first message with audio; the stream is then read to its end."""
        request = stream_request(TEXT, {"seed": SEED, "max_seconds": self._most_s})
        started_s, first_s = time.perf_counter(), 0.0
        async for message in self._stub.StreamSynthesize(request, timeout=TIMEOUT_S):
            if not first_s and message.HasField("audio_chunk"):
                first_s = time.perf_counter() - started_s
        return first_s

    async def close(self) -> None:
        await self._channel.close(None)


class HttpCaller:
    """A caller over HTTP, with one kept-alive connection to the door."""

    def __init__(self, port: int, most_s: float) -> None:
        """most_s: longest audio"""
        self._port = port
        speech = {"input": TEXT, "response_format": "pcm", "seed": SEED, "max_audio_seconds": most_s}
        body = json.dumps(speech).encode()
        self._request = (
            f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def first_audio_s(self, on_first: Callable[[], None] = lambda: None) -> tuple[float, int]:
        """Seconds until the first byte of audio, and how many bytes came. Raises RuntimeError for an answer but 200."""
        started_s, first_s, count = time.perf_counter(), 0.0, 0
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(head.splitlines()[0].decode())
        while size := int(await self._reader.readline(), 16):
            await self._reader.readexactly(1)
            if not first_s:
                first_s = time.perf_counter() - started_s
                on_first()
            await self._reader.readexactly(size + 1)
            count += size
        await self._reader.readline()
        return first_s, count

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
