"""WebSockets of clients that read no faster than they play, or not at all."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from services.http import connections, cuts
from tests.support.clock import Clock
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.waits import eventually, settle

FRAMES = 1125  # of the longest sentence: more audio than the buffers between door and client hold
AUDIO_BYTES = FRAMES * 3840 * 2
NEVER_S = 3600.0


async def speaking(door: FakeDoor, client: ClientConnection) -> None:
    """Has a long text spoken to a client that reads nothing. Returns when the door cannot write any more."""
    door.behind.engine.frame_count = FRAMES
    client.transport.pause_reading()  # type: ignore[attr-defined]
    for message in (
        {"type": "session.config", "sample_rate": 48_000},
        {"type": "input.text", "text": "Hello."},
        {"type": "input.done"},
    ):
        await client.send(json.dumps(message))
    await eventually(lambda: is_unwritable(door))


def is_unwritable(door: FakeDoor) -> bool:
    """Whether more waits for a WebSocket's client than its transport takes at once."""
    return any(
        end.get_write_buffer_size() > end.get_write_buffer_limits()[1]  # type: ignore[attr-defined]
        for end in door.stage.server.connections()
        if isinstance(end.get_protocol(), connections.WebSocketConnection)
    )


async def heard(client: ClientConnection) -> int:
    """Bytes of audio up to the end of the utterance."""
    client.transport.resume_reading()  # type: ignore[attr-defined]
    count = 0
    async with asyncio.timeout(60):
        async for message in client:
            if isinstance(message, bytes):
                count += len(message)
            elif json.loads(message)["type"] == "session.done":
                return count
    raise AssertionError("closed")


def connected(door: FakeDoor) -> connect:
    """A client whose socket holds little. It sends no pings of its own."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    own.connect(("127.0.0.1", door.stage.server.port))
    own.setblocking(False)
    return connect("ws://localhost/v1/audio/stream", sock=own, proxy=None, ping_interval=None)


async def test_pings_behind_unread_audio_are_answered_with_the_newest_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    pings = asyncio.Queue[None]()
    handle_ping = connections.WebSocketConnection.handle_ping

    def noted(connection: connections.WebSocketConnection) -> None:
        handle_ping(connection)
        pings.put_nowait(None)

    monkeypatch.setattr(connections.WebSocketConnection, "handle_ping", noted)
    async with fake_door({"write_timeout_seconds": 60.0}) as door:
        async with connected(door) as client:
            await speaking(door, client)
            pongs = [await client.ping(payload) for payload in (b"first", b"second")]
            async with asyncio.timeout(30):
                for _ in pongs:
                    await pings.get()
            assert await heard(client) == AUDIO_BYTES
            async with asyncio.timeout(30):
                await asyncio.gather(*pongs)  # a pong answers the pings before its own too


def is_acknowledged(door: FakeDoor) -> bool:
    """Whether the clients' kernels have answered for all that was sent. They do so in their own time, which a clock
    that is put forward does not give them, and a client without an answer has vanished.
    """
    known = [cuts.read_tcp(end) for end in door.stage.server.connections()]
    return all(tcp is None or tcp.unacknowledged_count == 0 for tcp in known)


async def test_a_client_that_plays_slowly_may_answer_the_door_s_pings_late(clock: Clock) -> None:
    async with fake_door({"write_timeout_seconds": NEVER_S}, write_timeout_seconds=NEVER_S) as door:
        async with connected(door) as client:
            await speaking(door, client)
            await eventually(lambda: is_acknowledged(door))
            for _ in range(4):
                clock.put_forward(20)
                await settle()
            assert await heard(client) == AUDIO_BYTES


async def test_a_client_that_does_not_read_ends_its_session_with_a_reason_in_the_log(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "csm.http")
    async with fake_door({"write_timeout_seconds": NEVER_S}) as door:
        async with connected(door) as client:
            await speaking(door, client)
            clock.put_forward(31)
            await eventually(lambda: not door.stage.door.streams.count)
            client.transport.abort()
        [ended] = [each.__dict__ for each in caplog.records if each.msg == "request ended"]
    assert (ended["fields"]["status"], ended["fields"]["reason"]) == ("101", "client_too_slow")


async def test_an_idle_session_whose_client_does_not_read_gives_its_place_back(clock: Clock) -> None:
    async with fake_door(write_timeout_seconds=1.0) as door:
        async with connected(door) as client:
            await client.send(json.dumps({"type": "session.config"}))
            await client.recv()
            client.transport.pause_reading()  # type: ignore[attr-defined]
            ping = Frame(Opcode.PING, b"p" * 125).serialize(mask=True)
            while not is_unwritable(door):
                assert not client.transport.is_closing()
                client.transport.write(ping * 1000)
                await asyncio.sleep(0.01)
            clock.put_forward(301)  # --websocket-idle-seconds
            await settle()
            clock.put_forward(2)
            await eventually(lambda: not door.stage.door.streams.count)
            client.transport.abort()


async def test_the_kernel_holds_little_of_what_a_websocket_s_client_has_not_read(door: FakeDoor) -> None:
    async with connected(door) as client:
        await client.ping()
        [end] = door.stage.server.connections()
        size = end.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert size <= 2 * connections.SEND_BUFFER_BYTES  # Linux counts its own records too
