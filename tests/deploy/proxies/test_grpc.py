"""HAProxy, nginx and Caddy, with the files of deploy/, before two gateways: streams, cancels, deadlines and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import csm_client
import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from tests.deploy.proxies.processes import FRONTS, WAIT_S, haproxy
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import numbered_audio

SECONDS = 0.4  # 5 frames


@dataclass
class Balanced:
    """A proxy and the two gateways behind it, each with an engine and a codec of its own."""

    target: str
    gateways: list[FakeDeployment]

    def calls(self) -> list[int]:
        """Of each gateway's engine."""
        return [len(gateway.engine.calls) for gateway in self.gateways]


@pytest.fixture(params=["haproxy", "nginx", "caddy"])
def proxy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def balanced(proxy: str, folder: Path) -> AsyncIterator[Balanced]:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(fake_deployment()) for _ in range(2)]
        for gateway in gateways:
            await gateway.gateway.wait_ready()
        servers = [gateway.gateway.server for gateway in gateways]
        if proxy == "haproxy":
            ports = [(server.port, server.health_port) for server in servers]
            target = await stack.enter_async_context(haproxy(folder, ports))
        else:
            started = FRONTS[proxy](folder, gateways=[server.port for server in servers])
            _, target = await stack.enter_async_context(started)
        yield Balanced(target, gateways)


async def test_streams_pass_whole_and_are_spread(proxy: str, tmp_path: Path) -> None:
    async with balanced(proxy, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        for _ in range(6):
            chunks = [chunk.audio_content async for chunk in client.stream_synthesize("Hello.", max_seconds=SECONDS)]
            assert b"".join(chunks) == numbered_audio(range(5))
        # One connection, single calls. Caddy draws lots between gateways with as many calls.
        assert ways.calls() == [3, 3] if proxy != "caddy" else sum(ways.calls()) == 6


async def test_texts_are_spoken_while_they_are_written(proxy: str, tmp_path: Path) -> None:
    heard = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "One sentence. And "
        await asyncio.wait_for(heard.wait(), WAIT_S)
        yield "another."

    audio = b""
    async with balanced(proxy, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        async for chunk in client.stream_synthesize_text(pieces()):
            audio += chunk.audio_content
            heard.set()
    assert len(audio) == 2 * len(numbered_audio(range(10)))


async def test_a_cancel_reaches_the_engine(proxy: str, tmp_path: Path) -> None:
    async with balanced(proxy, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        for gateway in ways.gateways:
            gateway.engine.script.pause_at = 3
        async for _ in client.stream_synthesize("Hello.", max_seconds=SECONDS):
            break  # the stream is closed, which cancels it
        assert await ended(ways) == "CancelledError"


async def test_a_deadline_passes_both_ways(proxy: str, tmp_path: Path) -> None:
    async with balanced(proxy, tmp_path) as ways:
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
        assert call.remaining_s is not None and call.remaining_s <= 1.1 * timeout_s  # gRPC rounds it up on its way


async def test_errors_pass_with_their_details(proxy: str, tmp_path: Path) -> None:
    async with balanced(proxy, tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        with pytest.raises(csm_client.InvalidRequestError) as failed:
            await client.synthesize("", max_seconds=SECONDS)
        assert "text" in str(failed.value)
        for gateway in ways.gateways:
            gateway.engine.script.fail_at = 0
        with pytest.raises(csm_client.ServerError) as failed_first:
            async for _ in client.stream_synthesize("Hello.", max_seconds=SECONDS):
                pass
        _assert_has_details(failed_first.value)
        for gateway in ways.gateways:
            gateway.engine.script.fail_at = gateway.engine.script.pause_at = 2
        with pytest.raises(csm_client.IncompleteAudioError) as broken:
            async for _ in client.stream_synthesize("Hello.", max_seconds=SECONDS):
                for gateway in ways.gateways:
                    gateway.engine.script.resume.set()  # audio has come: now the engine fails
        _assert_has_details(broken.value.__cause__)


def _assert_has_details(error: BaseException | None) -> None:
    assert isinstance(error, csm_client.ServerError)
    assert error.reason and error.request_id and error.code.name == "INTERNAL"


async def test_a_stopped_gateway_gets_no_calls(proxy: str, tmp_path: Path) -> None:
    """For clients that do not call again themselves, as ours do."""
    request = tts_pb2.SynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="Hello."),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
    )
    async with AsyncExitStack() as stack:
        ways = await stack.enter_async_context(balanced(proxy, tmp_path))
        channel = grpc.aio.insecure_channel(ways.target, options=[("grpc.enable_retries", 0)])
        stub = tts_pb2_grpc.TextToSpeechServiceStub(await stack.enter_async_context(channel))
        for _ in range(2):
            await stub.Synthesize(request, timeout=WAIT_S)
        before = ways.calls()[0]
        await ways.gateways[0].gateway.stop()
        for _ in range(4):
            await stub.Synthesize(request, timeout=WAIT_S)
        assert ways.calls() == [before, 6 - before]


async def test_a_gateway_that_is_not_ready_gets_no_calls_of_haproxy(tmp_path: Path) -> None:
    async with balanced("haproxy", tmp_path) as ways, csm_client.AsyncClient(ways.target, timeout_s=WAIT_S) as client:
        ways.gateways[0].engine_server.set_serving(False)
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
