"""Clients that leave within their speech, or vanish: their machine is gone, and no packet says so."""

from __future__ import annotations

import asyncio
import ctypes
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from services.http import server
from services.http.cuts import LOOK_S, LOST_S, LostClients, read_tcp
from tests.support.clock import Clock
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import FRAME_SAMPLES
from tests.support.waits import eventually, settle

ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux
NEVER_S = 86_400.0
FRAME_BYTES = 2 * FRAME_SAMPLES


def vanish(transport: Any) -> None:
    """The client's kernel drops what comes for it, and so acknowledges nothing. Skips where this is not allowed."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # the filter's one instruction: return 0
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    try:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)
    except OSError as error:
        pytest.skip(f"no packet filter here: {error}")


@asynccontextmanager
async def session(door: FakeDoor) -> AsyncIterator[ClientConnection]:
    """A client that has been told that its session exists."""
    address = f"ws://127.0.0.1:{door.stage.server.port}/v1/audio/stream"
    async with connect(address, proxy=None, ping_interval=None, close_timeout=0.1) as client:
        await client.send(json.dumps({"type": "session.config"}))
        assert json.loads(await client.recv())["type"] == "session.created"
        yield client


async def speak_forever(door: FakeDoor, client: ClientConnection) -> None:
    """Returns once the client has the audio of all frames that are made, of an utterance that does not end. No write is
    under way then: one that is when the clock is put forward would have taken too long.
    """
    script = door.behind.engine.script
    script.pause_at = 6
    await client.send(json.dumps({"type": "input.text", "text": "Hello there. ", "flush": True}))
    num_bytes = 0
    while num_bytes < script.pause_at * FRAME_BYTES:
        message = await client.recv()
        num_bytes += len(message) if isinstance(message, bytes) else 0


def ended(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Method, status and reason of each request that the door has logged."""
    logged = [each.__dict__["fields"] for each in caplog.records if each.msg == "request ended"]
    return [(fields["method"], fields["status"], fields["reason"]) for fields in logged]


@pytest.mark.parametrize("has_begun", [True, False], ids=["within speech", "idle"])
async def test_a_websocket_of_a_vanished_client_gives_its_place_back(
    clock: Clock, caplog: pytest.LogCaptureFixture, has_begun: bool
) -> None:
    caplog.set_level("INFO", "csm.http")
    async with fake_door(websocket_idle_seconds=NEVER_S) as door, session(door) as client:
        if has_begun:
            await speak_forever(door, client)
        vanish(client.transport)
        [end] = door.stage.server.connections()
        clock.put_forward(20)  # uvicorn's ping, which no one acknowledges
        await eventually(lambda: (tcp := read_tcp(end)) and tcp.unacknowledged_count)
        for seconds in (LOOK_S, LOST_S - 2 * LOOK_S):
            clock.put_forward(seconds)
            await settle()
            assert door.stage.door.streams.count == 1
        clock.put_forward(2 * LOOK_S)
        await eventually(lambda: not door.stage.door.streams.count)
        await eventually(lambda: ended(caplog) == [("WEBSOCKET", "499", "client_lost")])


async def test_speech_for_a_vanished_client_stops(
    door: FakeDoor, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "csm.http")
    door.behind.engine.frame_count = 1125
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    content = json.dumps(body)
    head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode())
    await reader.readexactly(1)
    vanish(writer)
    [connection] = door.stage.server._server.server_state.connections
    await eventually(lambda: (tcp := read_tcp(connection.transport)) and tcp.unacknowledged_count)
    lost = LostClients(LOST_S)
    for now_s in (0.0, LOST_S - 0.1):
        lost.cut([connection], now_s)
        assert not connection.transport.is_closing()
    lost.cut([connection], LOST_S)
    await asyncio.wait_for(door.behind.engine.calls[0].ended.wait(), 60)
    await eventually(lambda: ended(caplog) == [("POST", "499", "client_lost")])
    writer.close()


async def test_a_client_that_does_not_read_but_answers_is_not_lost(door: FakeDoor) -> None:
    door.behind.engine.frame_count = 1125
    async with session(door) as client:
        client.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(json.dumps({"type": "input.text", "text": "Hello there. ", "flush": True}))
        [end] = door.stage.server.connections()
        await eventually(lambda: end.get_write_buffer_size() > end.get_write_buffer_limits()[1])  # type: ignore[attr-defined]
        await eventually(lambda: (tcp := read_tcp(end)) and not tcp.unacknowledged_count and not tcp.probe_count)
        lost = LostClients(LOST_S)
        for now_s in (0.0, 1000.0):
            lost.cut(door.stage.server._server.server_state.connections, now_s)
        assert not end.is_closing()
        client.transport.abort()


async def test_the_kernel_probes_idle_clients(door: FakeDoor) -> None:
    async with session(door):
        accepted = door.stage.server.connections()[0].get_extra_info("socket")
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s, interval_s, count = (
            accepted.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle_s + interval_s * count == LOST_S


@pytest.mark.parametrize("says_so", [True, False], ids=["closes", "aborts"])
async def test_a_websocket_left_within_speech_is_logged_as_left(
    door: FakeDoor, caplog: pytest.LogCaptureFixture, says_so: bool
) -> None:
    caplog.set_level("INFO", "csm.http")
    async with session(door) as client:
        await speak_forever(door, client)
        if says_so:
            await client.close()
        else:
            client.transport.abort()
        await eventually(lambda: ended(caplog) == [("WEBSOCKET", "499", "cancelled")])


async def test_a_websocket_closed_between_utterances_is_a_usual_end(
    door: FakeDoor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "csm.http")
    async with session(door) as client:
        for text in ({"type": "input.text", "text": "Hello."}, {"type": "input.done"}):
            await client.send(json.dumps(text))
        while isinstance(message := await client.recv(), bytes) or json.loads(message)["type"] != "session.done":
            pass
        await client.close()
        await eventually(lambda: ended(caplog) == [("WEBSOCKET", "101", "")])


async def test_a_websocket_that_a_drain_cuts_is_no_client_that_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LAST_SECONDS", 1)
    caplog.set_level("INFO", "csm.http")
    async with fake_door() as door, session(door) as client:
        await speak_forever(door, client)
        await door.stage.stop()
        await eventually(lambda: ended(caplog) == [("WEBSOCKET", "broken", "draining")])
