"""Slow and idle callers, each of which holds what it has opened until the server ends it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client.errors import from_rpc_error
from csm_client.requests import stream_request
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

AUDIO_S = 60  # length of a stream; more than the buffers between server and caller hold
TEXT = "A long story that nobody hears to its end, told again and again."
SLOW_READ_S = 2.0  # between two messages of CHUNK_S: a pace of 0.05
CHUNK_S = 0.1
HOLD_S = 120.0  # how long those that read nothing wait; the server ends them earlier
BUFFER_BYTES = 16_384  # of a socket that is not read
LONGEST_S = 600.0
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
# By default a gRPC client buffers megabytes of unread data, which is a whole stream.
LITTLE_BUFFER = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", BUFFER_BYTES)]


@dataclass(frozen=True, slots=True)
class Doors:
    """Addresses of a deployment."""

    gateway_port: int
    http_port: int


Caller = Callable[[Doors], Awaitable[str]]  # returns how it was ended


async def reads_nothing(doors: Doors) -> str:
    return await _stream(doors, HOLD_S, 0.0)


async def reads_slowly(doors: Doors) -> str:
    return await _stream(doors, 0.0, SLOW_READ_S)


async def writes_no_text(doors: Doors) -> str:
    async with _channel(doors) as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        call = stub.StreamSynthesizeText(timeout=LONGEST_S)
        config = _request()
        config.ClearField("input")
        await call.write(tts_pb2.StreamSynthesizeTextRequest(config=config))
        return await _end(call)


async def reads_no_answer(doors: Doors) -> str:
    """Over HTTP."""
    body = json.dumps({"input": TEXT, "voice": "alloy", "model": "csm", "response_format": "pcm"}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    return await _raw(doors.http_port, f"{head}content-type: application/json\r\n\r\n".encode() + body, HOLD_S)


async def says_nothing_to_the_door(doors: Doors) -> str:
    return await _raw(doors.http_port, b"")


async def says_nothing_to_the_gateway(doors: Doors) -> str:
    return await _raw(doors.gateway_port, b"")


async def idles_on_a_websocket(doors: Doors) -> str:
    address = f"ws://127.0.0.1:{doors.http_port}/v1/audio/stream"
    async with connect(address, proxy=None, open_timeout=LONGEST_S, ping_interval=None) as talk:
        await talk.send('{"type": "session.config"}')
        with suppress(ConnectionClosed):
            while True:
                await talk.recv()
        return f"closed {talk.close_code}"


KINDS: dict[str, Caller] = {
    caller.__name__: caller
    for caller in (
        reads_nothing,
        reads_slowly,
        writes_no_text,
        reads_no_answer,
        idles_on_a_websocket,
        says_nothing_to_the_door,
        says_nothing_to_the_gateway,
    )
}


def _channel(doors: Doors) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{doors.gateway_port}", options=OWN_CONNECTION + LITTLE_BUFFER)


def _request() -> tts_pb2.StreamSynthesizeRequest:
    return stream_request(TEXT, {"max_seconds": AUDIO_S, "chunk_seconds": CHUNK_S})


async def _stream(doors: Doors, hold_s: float, read_s: float) -> str:
    """Reads a stream. hold_s: wait before the first read. read_s: wait before each read."""
    async with _channel(doors) as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        call = stub.StreamSynthesize(_request(), timeout=LONGEST_S)
        await asyncio.sleep(hold_s)
        return await _end(call, read_s)


async def _end(call: Any, read_s: float = 0.0) -> str:
    """Reads the call to its end. Returns the reason of its status."""
    try:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
            await asyncio.sleep(read_s)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    return "whole"


async def _raw(port: int, sent: bytes, hold_s: float = 0.0) -> str:
    """Holds a connection until the server has closed it. hold_s: wait before anything is read."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    opened.setblocking(False)
    loop = asyncio.get_running_loop()
    with opened:
        await loop.sock_connect(opened, ("127.0.0.1", port))
        await loop.sock_sendall(opened, sent)
        await asyncio.sleep(hold_s)
        with suppress(ConnectionError):
            while await loop.sock_recv(opened, 2**16):
                pass
    return "closed"
