"""The network between two namespaces: its delay, its losses, its counts; and the benchmark's rows."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from bench.listeners.load import StreamRecord
from bench.listeners.playback import Arrival
from bench.network import __main__ as network
from bench.network.__main__ import ConditionRuns
from bench.network.deployment import why_not
from bench.network.relay import Relay, connect

WAIT_S = 60.0


@pytest.fixture
async def way() -> AsyncIterator[tuple[Relay, socket.socket, socket.socket]]:
    """A relay between two packet sockets instead of TUN devices."""
    (near, relay_near), (far, relay_far) = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
    relay = Relay(relay_near.fileno(), relay_far.fileno(), seed=1)
    loop = asyncio.get_running_loop()
    relay.start(loop)
    for end in (near, far):
        end.setblocking(False)
    yield relay, near, far
    for end in (relay_near, relay_far):
        loop.remove_reader(end.fileno())
    for end in (near, far, relay_near, relay_far):
        end.close()


async def receive(end: socket.socket) -> bytes:
    async with asyncio.timeout(WAIT_S):
        return await asyncio.get_running_loop().sock_recv(end, 4096)


async def test_packets_pass_both_ways_whole_and_in_order(
    way: tuple[Relay, socket.socket, socket.socket],
) -> None:
    relay, near, far = way
    relay.delay_s = 0.005
    for number in range(5):
        near.send(bytes([number]) * 100)
    assert [await receive(far) for _ in range(5)] == [bytes([number]) * 100 for number in range(5)]
    far.send(b"back")
    assert await receive(near) == b"back"
    assert sorted(relay.carried.values()) == [4, 500]


async def test_a_packet_waits_for_the_delay(way: tuple[Relay, socket.socket, socket.socket]) -> None:
    relay, near, far = way
    relay.delay_s = 0.2
    loop = asyncio.get_running_loop()
    began = loop.time()
    near.send(b"late")
    await receive(far)
    assert loop.time() - began >= 0.2  # never sooner; a busy machine makes it later


async def test_lost_packets_are_those_that_are_drawn(way: tuple[Relay, socket.socket, socket.socket]) -> None:
    relay, near, far = way
    relay.loss = 0.5
    draws = random.Random(1)
    kept = [number for number in range(40) if draws.random() >= 0.5]
    for number in range(40):
        near.send(bytes([number]))
    assert [(await receive(far))[0] for _ in kept] == kept
    assert max(relay.carried.values()) == 40  # lost ones are counted


def test_a_row_counts_streams_with_underruns() -> None:
    runs = ConditionRuns((5.0, 0.1), 10.2)
    for late_s in (0.4, 0.7):  # playback of half a second from 0.1 on
        runs.streams.append(StreamRecord(0.0, 0.0, audio=[Arrival(0.1, 0.5), Arrival(late_s, 0.5)]))
    runs.carried = {"engine": 4_000, "codec": 100_000}
    row = runs.row(200.0)
    assert (row["streams"], row["failed"], row["ttfa_p50_ms"]) == (2, 0, 100.0)
    assert (row["with_underrun_0_ms_buffer"], row["with_underrun_200_ms_buffer"]) == (0.5, 0.0)
    assert row["longest_stall_ms"] == 100.0
    assert (row["engine_bytes_per_audio_s"], row["codec_bytes_per_audio_s"]) == (2_000, 50_000)


def test_without_root_the_benchmark_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert network.main([]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "skipped, nothing was measured: network namespaces need root" in printed.err


@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_a_connection_crosses_two_namespaces() -> None:
    """The kernel's TCP on both sides of the relay."""
    number = os.getpid() % 2**14  # addresses of its own: two runs on one machine may do this at once
    near, far = (f"10.78.{number // 64}.{number % 64 * 4 + side}" for side in (1, 2))
    namespace = f"csm-test-{os.getpid()}"
    os.system(f"ip netns add {namespace} && ip -n {namespace} link set lo up")
    server = None
    try:
        here, there = connect(namespace, near, far)
        relay = Relay(here, there)
        relay.start(asyncio.get_running_loop())
        server = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", namespace, "python3", "-c",
            f"import socket; s = socket.create_server(('{far}', 7000)); print('ready', flush=True);"
            "c, _ = s.accept(); c.sendall(c.recv(5)[::-1])",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert server.stdout is not None
        async with asyncio.timeout(WAIT_S):
            await server.stdout.readline()
            reader, writer = await asyncio.open_connection(far, 7000)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"olleh"
        writer.close()
        assert all(count > 0 for count in relay.carried.values())
        for device in (here, there):
            asyncio.get_running_loop().remove_reader(device)
            os.close(device)
    finally:
        if server is not None:
            with suppress(ProcessLookupError):
                server.kill()
            await server.wait()
        os.system(f"ip netns delete {namespace}")
