"""Connections: callers cannot hold them for ever or fill the memory with them, and clients see how they end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from services.common.rpc.server import OTHER_FILES
from services.http import connections, server
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.waits import eventually

STREAM = "/v1/audio/stream"


def request(body: dict[str, Any], version: str = "1.1") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/audio/speech HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def no_connection(door: FakeDoor) -> None:
    await eventually(lambda: not door.stage.server.connections())


@pytest.mark.parametrize(
    "start", [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n",
              b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"]
)  # fmt: skip
async def test_a_body_that_continues_after_its_response_closes_the_connection(
    door: FakeDoor, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_BODY_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    writer.write(start)
    reading = asyncio.create_task(reader.read())  # until the connection is closed
    async with asyncio.timeout(60):
        while not reading.done():
            writer.write(b"x")
            await asyncio.sleep(0.02)
    writer.close()
    await no_connection(door)


async def test_a_body_that_ends_after_its_response_keeps_the_connection_usable(door: FakeDoor) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
        assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"abc")
    writer.close()


async def test_late_headers_of_a_later_request_close_the_connection() -> None:
    async with fake_door(header_timeout_seconds=0.2) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_connections_over_the_limit_get_an_error_or_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SPARE_CONNECTIONS", 3)
    async with fake_door(max_connections=3) as door:
        ends = [await asyncio.open_connection("127.0.0.1", door.stage.server.port) for _ in range(6)]
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
        assert await late_reader.read(1) == b""
        assert len(door.stage.server.connections()) == 6
        asked = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        probed = (
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"  # many connections are no reason to restart the door
        )
        for (_, writer), sent in zip(ends, (asked, probed, probed, asked, probed, asked), strict=True):
            writer.write(sent)
            await writer.drain()
        assert [(await reader.readline()).split()[1] for reader, _ in ends] == [b"200"] * 3 + [b"503", b"200", b"503"]
        assert b"too_many_connections" in await ends[3][0].read()  # to its close
        assert await ends[4][0].read()
        assert 'status="503"} 2.0' in (await door.client.get("/metrics")).text
        for writer in [late_writer, *(writer for _, writer in ends)]:
            writer.close()
        await no_connection(door)
        assert (await door.client.get("/healthz")).status_code == 200


def test_connections_are_no_more_than_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    assert server._most_connections(4096) == 1024 - OTHER_FILES
    assert server._most_connections(100) == 100


async def test_client_that_does_not_read_loses_its_connection(body: dict[str, Any]) -> None:
    async with fake_door({"write_timeout_seconds": 60.0}, write_timeout_seconds=0.3) as door:
        door.behind.engine.frame_count = 1000
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", door.stage.server.port))
        connection.send(request(body | {"sample_rate": 48_000}))
        await eventually(lambda: door.behind.engine.calls)
        await no_connection(door)
        connection.close()


async def unread(door: FakeDoor) -> socket.socket:
    """A client that reads none of its answers, until the server cannot write the next one."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", door.stage.server.port))
    async with asyncio.timeout(30):
        here = await eventually(lambda: door.stage.server.connections())
        here[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while here[0].get_write_buffer_size() <= here[0].get_write_buffer_limits()[1]:
            connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.sleep(0.01)
    return connection


async def test_a_response_that_cannot_start_releases_its_place(
    body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNTOLD_S", 0.1)
    async with fake_door(write_timeout_seconds=0.3) as door:
        connection = await unread(door)
        connection.send(request(body))
        await no_connection(door)
        await eventually(lambda: not door.stage.door.streams.count)
        connection.close()


async def test_a_client_that_reads_again_in_time_keeps_its_connection(door: FakeDoor) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    end: Any = next(iter(await eventually(lambda: door.stage.server._server.server_state.connections)))
    end.pause_writing()
    cut = end._timers["reading"]
    end.resume_writing()
    assert cut.cancelled() and not end.flow.write_paused
    writer.close()


async def test_a_websocket_does_not_start_behind_unread_responses(door: FakeDoor) -> None:
    """Otherwise the gateway would not know to wait, and the door would buffer all speech."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    [end] = await eventually(lambda: door.stage.server._server.server_state.connections)
    end.pause_writing()  # type: ignore[union-attr]  # as its transport does
    writer.write(UPGRADE + b"\r\n")
    assert await asyncio.wait_for(reader.read(), 20) == b""  # sooner than by the timeout of writes
    writer.close()


UPGRADE = (
    b"GET /v1/audio/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    "headers", [b"Cookie: " + b"x" * 9000 + b"\r\n", b"X: y\r\n" * 200, b"X: \x7f\r\n"], ids=["long", "many", "DEL"]
)
async def test_invalid_websocket_headers_close_the_connection(door: FakeDoor, headers: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    writer.write(UPGRADE + headers + b"\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.startswith(b"HTTP/1.1 431 ") and b"headers cannot be read" in answer
    writer.close()
    await no_connection(door)


async def test_a_refused_websocket_is_not_logged_as_an_error(door: FakeDoor, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    writer.write(UPGRADE + b"Origin: https://bad.example\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 403 ")
    writer.close()
    await no_connection(door)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_unread_pongs_do_not_fill_the_memory(door: FakeDoor) -> None:
    async with connect(f"ws://127.0.0.1:{door.stage.server.port}{STREAM}", ping_interval=None) as client:
        client.transport.pause_reading()  # type: ignore[attr-defined]
        [end] = door.stage.server.connections()
        ping, paused = Frame(Opcode.PING, b"p" * 125).serialize(mask=True) * 1000, 0
        async with asyncio.timeout(60):
            while paused < 20:
                client.transport.write(ping)
                paused += end.get_write_buffer_size() > end.get_write_buffer_limits()[1]  # type: ignore[attr-defined]
                assert end.get_write_buffer_size() < 2**20
                await asyncio.sleep(0)
        client.transport.abort()
    await no_connection(door)


async def test_message_of_too_many_fragments_is_refused(door: FakeDoor) -> None:
    async with connect(f"ws://127.0.0.1:{door.stage.server.port}{STREAM}") as client:
        client.transport.write(Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True))
        for _ in range(connections.MOST_FRAGMENTS):
            client.transport.write(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True))
        await asyncio.wait_for(client.wait_closed(), 20)
        assert client.close_code == 1009


@pytest.mark.parametrize("fin", [False, True], ids=["fragments", "a frame"])
async def test_messages_that_have_not_come_whole_are_limited_together(fin: bool) -> None:
    async with fake_door(max_bodies_bytes=100_000) as door:
        bodies, address = door.stage.door.bodies, f"ws://127.0.0.1:{door.stage.server.port}{STREAM}"
        half = Frame(Opcode.TEXT, b" " * 60_000, fin=fin).serialize(mask=True)[: 55_500 if fin else None]
        async with connect(address) as first:
            first.transport.write(half)
            await eventually(lambda: bodies.held)
            async with connect(address) as second:
                second.transport.write(half)
                await asyncio.wait_for(second.wait_closed(), 20)
                assert (second.close_code, second.close_reason) == (1013, "too_many_bodies")
            assert bodies.held
            first.transport.abort()
        await eventually(lambda: not bodies.held)


async def test_a_close_behind_a_text_that_is_no_utf_8_ends_the_connection_without_a_logged_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fake_door(header_timeout_seconds=300.0) as door:  # the end does not wait for the first message
        address = f"ws://127.0.0.1:{door.stage.server.port}{STREAM}"
        async with connect(address, close_timeout=None) as client:
            close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)  # 1000
            client.transport.write(Frame(Opcode.TEXT, b"\xff").serialize(mask=True) + close)
            await asyncio.wait_for(client.wait_closed(), 20)
        await no_connection(door)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_message_in_some_fragments_is_read(door: FakeDoor) -> None:
    async with connect(f"ws://127.0.0.1:{door.stage.server.port}{STREAM}") as client:
        await client.send(iter(['{"type": ', '"session', '.config"}']))
        assert json.loads(await client.recv())["type"] == "session.created"


@pytest.mark.parametrize("is_broken", [False, True])
async def test_broken_stream_over_http_1_0_is_a_reset(door: FakeDoor, body: dict[str, Any], is_broken: bool) -> None:
    script = door.behind.engine.script
    if is_broken:
        script.pause_at = script.fail_at = 5
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    writer.write(request(body, "1.0"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head and b"chunked" not in head.lower()
    await reader.readexactly(100)
    script.resume.set()
    if is_broken:
        with pytest.raises(ConnectionResetError):
            while await reader.read(2**16):
                pass
    else:
        assert len(await reader.read()) == 38_300
    writer.close()


class GoneClient:
    """The socket of a connection that its client has reset, on macOS."""

    def __init__(self, error: int) -> None:
        self._error = error

    def get_extra_info(self, name: str) -> GoneClient:
        return self

    def setsockopt(self, *_option: object) -> None:
        raise OSError(self._error, os.strerror(self._error))


def test_a_client_that_has_gone_needs_no_reset() -> None:
    connections._reset_at_close(cast(asyncio.Transport, GoneClient(errno.EINVAL)), True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        connections._reset_at_close(cast(asyncio.Transport, GoneClient(errno.EBADF)), True)
