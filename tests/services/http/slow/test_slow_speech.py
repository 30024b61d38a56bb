"""HTTP clients that read speech no faster than they play it, or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from services.http.backlog import LOOK_S, MOST_S, REST_S, WAITING, Backlog, waiting_bytes
from tests.support.authority import Authority
from tests.support.clock import Clock
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.waits import eventually, settle

FRAMES = 1125  # of the longest sentence
RATE_HZ = 48_000  # so that there is more audio than the kernel would hold
CHUNK_BYTES = 10 * 3840 * 2
AUDIO_BYTES = FRAMES * 3840 * 2
MOST_BYTES = round(MOST_S * RATE_HZ * 2)
NEVER_S = 3600.0
PATIENCE_S = 30.0


def request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body | {"sample_rate": RATE_HZ})
    head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode()


class Client:
    """A client whose kernel holds little and that reads when it is told to."""

    def __init__(self, door: FakeDoor, body: dict[str, Any]) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        self._socket.connect(("127.0.0.1", door.stage.server.port))
        self._socket.setblocking(False)
        self._socket.send(request(body))

    async def read(self, most: int) -> int:
        """Bytes of the response; fewer than `most` only at its end."""
        count, loop = 0, asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while count < most and (found := await loop.sock_recv(self._socket, min(most - count, 2**16))):
                count += len(found)
        return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def is_full(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a response waits for its client."""
    event, until_fewer = asyncio.Event(), Backlog._until_fewer

    async def noted(written: Backlog, most: float, few: float) -> None:
        event.set()
        await until_fewer(written, most, few)

    monkeypatch.setattr(Backlog, "_until_fewer", noted)
    return event


async def until_it_waits(door: FakeDoor, is_full: asyncio.Event) -> asyncio.Transport:
    """Returns when the door writes no more: the connection to the client."""
    [end] = await eventually(door.stage.server.connections)
    await eventually(lambda: is_full.is_set() or end.get_write_buffer_size() > end.get_write_buffer_limits()[1])  # type: ignore[attr-defined]
    return end


async def test_a_client_that_reads_as_it_plays_gets_the_whole_speech(
    body: dict[str, Any], clock: Clock, is_full: asyncio.Event
) -> None:
    async with fake_door({"write_timeout_seconds": NEVER_S}, write_timeout_seconds=PATIENCE_S) as door:
        door.behind.engine.frame_count = FRAMES
        client = Client(door, body)
        end = await until_it_waits(door, is_full)
        count = 0
        for _ in range(6):
            waiting = waiting_bytes(end)
            while waiting_bytes(end) >= waiting:  # the client's kernel makes room in steps
                count += await client.read(2**14)
                await asyncio.sleep(0)
            for _ in range(2):
                clock.put_forward(PATIENCE_S / 2 - 1)
                await settle()
        assert count < AUDIO_BYTES and not end.is_closing()
        assert count + await client.read(2 * AUDIO_BYTES) > AUDIO_BYTES
        await eventually(lambda: door.stage.door.metrics.registry.get_sample_value("http_requests_total", OK))
        client.close()


OK = {"route": "/v1/audio/speech", "method": "POST", "status": "200"}


async def test_little_audio_waits_for_a_client_that_does_not_read(body: dict[str, Any], is_full: asyncio.Event) -> None:
    async with fake_door({"write_timeout_seconds": NEVER_S}, write_timeout_seconds=NEVER_S) as door:
        door.behind.engine.frame_count = FRAMES
        client = Client(door, body)
        end = await until_it_waits(door, is_full)
        assert MOST_BYTES / 2 < waiting_bytes(end) < MOST_BYTES + CHUNK_BYTES + 1000
        client.close()


async def test_little_audio_waits_over_tls_too(tmp_path: Path, body: dict[str, Any], is_full: asyncio.Event) -> None:
    authority = Authority()
    files = authority.write(tmp_path)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    async with fake_door({"write_timeout_seconds": NEVER_S}, write_timeout_seconds=NEVER_S, **files) as door:
        door.behind.engine.frame_count = FRAMES
        address = ("localhost", door.stage.server.port)
        _, writer = await asyncio.open_connection(*address, family=socket.AF_INET, ssl=context, limit=1000)
        writer.write(request(body))
        await until_it_waits(door, is_full)
        assert is_full.is_set()
        writer.transport.abort()


async def test_the_gateway_does_not_run_far_ahead_of_a_client_that_does_not_read(
    body: dict[str, Any], is_full: asyncio.Event
) -> None:
    gateway = {"write_timeout_seconds": NEVER_S, "slot_patience_seconds": 0.5}
    async with fake_door(gateway, write_timeout_seconds=NEVER_S) as door:
        door.behind.engine.frame_count = FRAMES
        client = Client(door, body)
        await until_it_waits(door, is_full)
        [call] = door.behind.codec.calls
        await asyncio.wait_for(call.ended.wait(), 60)  # its slot is given back
        assert call.frame_count < MOST_S / 0.08 + 150
        client.close()


async def test_a_client_that_reads_nothing_loses_its_speech(
    body: dict[str, Any], clock: Clock, is_full: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "csm.http")
    async with fake_door({"write_timeout_seconds": NEVER_S}, write_timeout_seconds=PATIENCE_S) as door:
        door.behind.engine.frame_count = FRAMES
        client = Client(door, body)
        await until_it_waits(door, is_full)
        await settle()
        clock.put_forward(PATIENCE_S)
        await eventually(lambda: not door.stage.door.streams.count)
        client.close()
        [ended] = [each.__dict__["fields"] for each in caplog.records if each.msg == "request ended"]
        assert (ended["status"], ended["reason"]) == ("broken", "client_too_slow")


@pytest.mark.parametrize("is_soon", [True, False])
async def test_writing_continues_when_half_is_left_or_later_when_there_is_room(clock: Clock, is_soon: bool) -> None:
    waiting = 0
    written = Backlog({WAITING: lambda: waiting}, PATIENCE_S)
    await written.add(60_000, 60.0)
    most = round(MOST_S * 1000)
    waiting = most + 1
    adding = asyncio.create_task(written.add(1000, 1.0))
    await settle()
    if not is_soon:
        clock.put_forward(REST_S)
    for left in (most + 1, round((MOST_S - REST_S) * 1000) + 1 if is_soon else most + 1):
        waiting = left
        clock.put_forward(LOOK_S)
        await settle()
        assert not adding.done()
    waiting -= 1
    clock.put_forward(LOOK_S)
    await asyncio.wait_for(adding, 60)


async def test_audio_does_not_wait_for_that_of_an_earlier_response_on_its_connection(clock: Clock) -> None:
    """The gateway would take a door that reads nothing meanwhile for a slow client."""
    waiting = 10_000_000
    written = Backlog({WAITING: lambda: waiting}, PATIENCE_S)
    for _ in range(round(MOST_S)):
        await asyncio.wait_for(written.add(3_000, 1.0), 60)
    adding = asyncio.create_task(written.add(3_000, 1.0))
    await settle()
    for _ in range(4):  # the client takes the earlier one
        waiting -= 1_000_000
        clock.put_forward(PATIENCE_S / 2)
        await settle()
        assert not adding.done()
    waiting = 0
    clock.put_forward(LOOK_S)
    await asyncio.wait_for(adding, 60)


@pytest.mark.parametrize("bytes_per_second", [3_000, 48_000])
async def test_the_limit_is_the_same_time_in_every_format(bytes_per_second: int) -> None:
    waiting = round(MOST_S * bytes_per_second) - 1
    written = Backlog({WAITING: lambda: waiting}, PATIENCE_S)
    for _ in range(20):
        await asyncio.wait_for(written.add(bytes_per_second, 1.0), 60)
    waiting += 2
    adding = asyncio.create_task(written.add(bytes_per_second, 1.0))
    await settle()
    assert not adding.done()
    adding.cancel()
