"""Debian's HAProxy with deploy/haproxy/haproxy.cfg before two gateways: streams, cancels, deadlines and errors pass."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import csm_client
import pytest
from grpc_health.v1 import health_pb2

from tests.deploy.haproxy.health_check import answer, request
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import numbered_audio
from tests.support.network.ports import free_ports

WAIT_S = 30.0
SECONDS = 0.4  # 5 frames


@pytest.fixture(scope="module")
def config(repository: Path) -> str:
    return (repository / "deploy" / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")


def test_health_check_is_the_one_of_grpc(config: str) -> None:
    (sent,) = re.findall(r"tcp-check send-binary (\w+)", config)
    (expected,) = re.findall(r"tcp-check expect binary (\w+)", config)
    assert sent == request("readiness").hex()
    assert expected == answer(health_pb2.HealthCheckResponse.SERVING).hex()


@dataclass
class Balanced:
    """HAProxy and the two gateways behind it, each with an engine and a codec of its own."""

    target: str
    gateways: list[FakeDeployment]

    def calls(self) -> list[int]:
        """Of each gateway's engine."""
        return [len(gateway.engine.calls) for gateway in self.gateways]


@asynccontextmanager
async def balanced(config: str, folder: Path) -> AsyncIterator[Balanced]:
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed (Debian: apt-get install haproxy)")
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(fake_deployment()) for _ in range(2)]
        for gateway in gateways:
            await gateway.gateway.wait_ready()
        target = f"127.0.0.1:{free_ports(1)[0]}"
        text = config.replace("127.0.0.1:50050", target)
        for number, gateway in enumerate(gateways):
            server = gateway.gateway.server
            here = f"server gateway-{number} 127.0.0.1:{server.port} port {server.health_port}"
            text, replaced = re.subn(rf"server gateway-{number} \S+ port \d+", here, text)
            assert replaced == 1
        (folder / "haproxy.cfg").write_text(text)
        process = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", str(folder / "haproxy.cfg"))
        try:
            async with asyncio.timeout(WAIT_S):
                await listening(target)
            yield Balanced(target, gateways)
        finally:
            process.kill()
            await process.wait()


async def listening(target: str) -> None:
    host, port = target.split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def test_streams_pass_whole_and_are_spread(config: str, tmp_path: Path) -> None:
    async with balanced(config, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        for _ in range(6):
            chunks = [chunk.audio_content async for chunk in client.stream_synthesize("Hello.", max_seconds=SECONDS)]
            assert b"".join(chunks) == numbered_audio(range(5))
        assert ways.calls() == [3, 3]  # one connection, single calls


async def test_texts_that_are_still_written_pass(config: str, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "One sentence. "
        yield "And another."

    async with balanced(config, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        stream = client.stream_synthesize_text(pieces(), max_seconds=SECONDS)
        audio = b"".join([chunk.audio_content async for chunk in stream])
    assert audio == numbered_audio(range(5))


async def test_a_cancel_reaches_the_engine(config: str, tmp_path: Path) -> None:
    async with balanced(config, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        for gateway in ways.gateways:
            gateway.engine.script.pause_at = 3
        async for _ in client.stream_synthesize("Hello.", max_seconds=SECONDS):
            break  # the stream is closed, which cancels it
        assert await ended(ways) == "CancelledError"


async def test_a_deadline_passes_both_ways(config: str, tmp_path: Path) -> None:
    async with balanced(config, tmp_path) as ways:
        for gateway in ways.gateways:
            gateway.engine.script.pause_at = 0
        for timeout_s in (1.0, 20.0):  # where a machine is busy it may pass before the engine is asked
            async with csm_client.AsyncClient(ways.target, timeout_s=timeout_s) as client:
                with pytest.raises(csm_client.DeadlineExceededError):
                    async for _ in client.stream_synthesize("Hello.", max_seconds=SECONDS):
                        pass
            if sum(ways.calls()):
                break
        await ended(ways)
        (call,) = [call for gateway in ways.gateways for call in gateway.engine.calls]
        assert call.remaining_s is not None and call.remaining_s < timeout_s


async def test_errors_pass_with_their_details(config: str, tmp_path: Path) -> None:
    async with balanced(config, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        with pytest.raises(csm_client.InvalidRequestError) as failed:
            await client.synthesize("", max_seconds=SECONDS)
        assert "text" in str(failed.value)
        for gateway in ways.gateways:
            gateway.engine.script.fail_at = 2
        with pytest.raises(csm_client.ServerError) as broken:
            async for _ in client.stream_synthesize("Hello.", max_seconds=SECONDS):
                pass
        assert broken.value.reason and broken.value.code.name in ("INTERNAL", "UNAVAILABLE")


async def test_a_gateway_that_is_not_ready_gets_no_calls(config: str, tmp_path: Path) -> None:
    async with balanced(config, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        await ways.gateways[0].engine_server.set_serving(False)
        async with asyncio.timeout(WAIT_S):
            while True:  # two checks, 2 s apart
                before = ways.calls()[0]
                for _ in range(2):
                    await client.synthesize("Hello.", max_seconds=SECONDS)
                if ways.calls()[0] == before:
                    return
                await asyncio.sleep(0.5)


async def ended(ways: Balanced) -> str:
    """Waits until the only call of the engines has ended; its error."""
    (call,) = [call for gateway in ways.gateways for call in gateway.engine.calls]
    async with asyncio.timeout(WAIT_S):
        await call.ended.wait()
    error: str = call.error
    return error
