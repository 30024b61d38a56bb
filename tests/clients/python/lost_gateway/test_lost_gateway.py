"""A gateway that is killed under a stream: the client goes on at another one, and no sample differs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import csm_client
import psutil
import pytest
from csm.v1 import tts_pb2
from csm_client.errors import IncompleteAudioError

from services.gateway.auth.code_sealing import CodeSeal
from tests.services.all_in_one.test_programs import environment
from tests.services.gateway.voices.callers import wav
from tests.support.fake_deployment import FakeDeployment, fake_deployment, stage_targets, target_of
from tests.support.fake_stages import CallRecord, numbered_audio
from tests.support.network.gateway_forks import GatewayProcess, start_gateway_process
from tests.support.network.ports import free_ports
from tests.support.waits import eventually

FRAMES = 60
HELD_AT = 20  # frame
AUDIO = numbered_audio(range(FRAMES))


class Gateways:
    """Gateways as processes before one fake engine and codec."""

    def __init__(self, deployment: FakeDeployment, keys: Path | None) -> None:
        """keys: seals codes; None leaves them open"""
        self.deployment = deployment
        self._sealing: dict[str, object] = {"code_sealing": "open"}
        if keys is not None:
            CodeSeal(keys)  # makes the file, before two gateways look for it
            self._sealing = {"code_sealing": "sealed", "code_sealing_keyring": keys}
        self.processes: list[GatewayProcess] = []
        self._ports: dict[GatewayProcess, int] = {}  # filled by whichever listens first

    @property
    def target(self) -> str:
        """The addresses, in the order of `processes`."""
        return target_of([self._ports[process] for process in self.processes])

    def kill_maker_of(self, call: CallRecord) -> None:
        """Kills the gateway that made this call, which runs."""
        port = int(call.peer.rsplit(":", 1)[1])
        maker = next(
            process
            for process in self.processes
            if process.poll() is None
            and any(held.laddr.port == port for held in psutil.Process(process.pid).net_connections("tcp"))
        )
        maker.kill()
        maker.wait()

    async def kill_before_header(self) -> None:
        """Kills the gateway of a call that the engine, whose `may_start` is cleared, keeps from its header."""
        engine = self.deployment.engine
        await eventually(lambda: engine.calls)
        self.kill_maker_of(engine.calls[0])
        engine.may_start.set()

    async def start(self, log: Path, port: int) -> None:
        settings = {
            "host": "127.0.0.1",
            "port": port,
            "health_port": 0,
            "metrics_port": -1,
            "stage_silence_seconds": 60,
            **stage_targets(self.deployment.engine_servers, self.deployment.codec_servers),
            **self._sealing,
        }
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        process = start_gateway_process(arguments, log, environment())
        self.processes.append(process)
        while not (log.exists() and (found := re.search(r"api port (\d+)", log.read_text()))):
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.05)
        self._ports[process] = int(found[1])

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    async with running_gateways(tmp_path) as running:
        yield running


@asynccontextmanager
async def running_gateways(tmp_path: Path, *, seals: bool = False, count: int = 2) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(fake_deployment())
        deployment.engine.frame_count = FRAMES
        running = Gateways(deployment, tmp_path / "seals.json" if seals else None)
        stack.callback(running.kill_all)
        ports = stack.enter_context(free_ports(count))  # where no other test's server is found by callers of lost ones
        await asyncio.gather(*(running.start(tmp_path / f"{port}.log", port) for port in ports))
        yield running


async def hold_two_streams(deployment: FakeDeployment) -> list[CallRecord]:
    """Waits until the codec has begun two streams, one of either gateway, and holds both."""
    calls = deployment.codec.calls
    await eventually(lambda: len(calls) >= 2 and all(call.frame_count >= HELD_AT for call in calls))
    return list(calls)


async def kill_one(gateways: Gateways, have_audio: Callable[[], bool] = lambda: True) -> None:
    """Kills one of two gateways while both have a stream, then lets the codec go on. A caller that has no audio yet is
    not told of the loss: gRPC repeats its call.

    have_audio: asked again until the callers have some
    """
    codec = gateways.deployment.codec
    async with asyncio.timeout(60):
        calls = await hold_two_streams(gateways.deployment)
        await eventually(have_audio)
        gateways.processes[0].kill()
        gateways.processes[0].wait()
        ends = [asyncio.create_task(call.ended.wait()) for call in calls]
        _, running = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
    codec.script.pause_at = None
    codec.script.resume.set()


def whole_samples(chunks: list[tts_pb2.AudioChunk], summary: tts_pb2.SynthesisSummary) -> bytes:
    position = 0
    for chunk in chunks:
        assert chunk.sample_offset == position
        position += chunk.sample_count
    assert position == summary.stats.sample_count
    return b"".join(chunk.audio_content for chunk in chunks)


class Listener:
    """Reads a stream in a task."""

    def __init__(self, stream: csm_client.AsyncSpeechStream) -> None:
        self.stream = stream
        self.chunks: list[tts_pb2.AudioChunk] = []
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> bytes:
        async with self.stream:
            async for chunk in self.stream:
                self.chunks.append(chunk)
        assert self.stream.summary is not None
        return whole_samples(self.chunks, self.stream.summary)


async def warm_up(deployment: FakeDeployment, say: Callable[[], Awaitable[object]]) -> None:
    """Until both gateways are connected to and take turns. Forgets the calls."""
    calls = deployment.engine.calls
    async with asyncio.timeout(60):
        while len({call.peer for call in calls[-2:]}) < 2:
            await say()
    calls.clear()
    deployment.codec.calls.clear()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"seed": 5, "encoding": "mp3"},
        {"chunk_seconds": 0.2, "sample_rate_hz": 16_000},
    ],
    ids=["seed got", "seed set", "other chunks"],
)
async def test_a_stream_resumes_at_another_gateway_bit_for_bit(gateways: Gateways, options: Any) -> None:
    deployment = gateways.deployment
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        await warm_up(deployment, lambda: client.synthesize("Hello.", max_seconds=0.08))
        undisturbed = await client.stream_synthesize("Hello.", **options).read_all()
        deployment.codec.calls.clear()
        deployment.codec.script.pause_at = HELD_AT
        listeners = [Listener(client.stream_synthesize("Hello.", **options)) for _ in range(2)]
        await kill_one(gateways, lambda: all(each.chunks for each in listeners))
        assert [await each.task for each in listeners] == [undisturbed.samples] * 2
    assert len(deployment.codec.calls) == 3
    if "seed" not in options:  # what goes on asks for the seed that the first call got
        seeds = [call.request.sampling_params.seed for call in deployment.engine.calls[1:]]
        assert len(set(seeds)) == 2


@pytest.mark.parametrize("method", ["synthesize", pytest.param("stream", marks=pytest.mark.slow)])
async def test_a_large_request_lost_before_its_header_is_retried(gateways: Gateways, method: str) -> None:
    """gRPC itself repeats none of over 256 KiB."""
    engine = gateways.deployment.engine
    engine.may_start.clear()
    context = [csm_client.Turn(0, "Before.", wav=wav(seconds=20.0))]
    async with asyncio.timeout(100), csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        if method == "synthesize":
            listening = asyncio.create_task(client.synthesize("Hello.", context=context))
        else:
            listening = asyncio.create_task(client.stream_synthesize("Hello.", context=context).read_all())
        await gateways.kill_before_header()
        assert (await listening).samples == AUDIO
    assert len(engine.calls) == 2


async def test_a_lost_watermark_search_is_retried(gateways: Gateways) -> None:
    codec = gateways.deployment.codec
    codec.search_script.pause_at = 0
    async with asyncio.timeout(100), csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        searching = asyncio.create_task(client.detect_watermark(wav(seconds=20.0)))
        await codec.search_script.paused.wait()
        gateways.kill_maker_of(codec.searches[0])
        codec.search_script.resume.set()
        await searching
    assert len(codec.searches) == 2


async def test_the_synchronous_client_resumes_a_stream(gateways: Gateways) -> None:
    deployment = gateways.deployment
    deployment.codec.script.pause_at = HELD_AT
    with csm_client.Client(gateways.target, timeout_s=100) as client:
        await warm_up(deployment, lambda: asyncio.to_thread(client.synthesize, "Hello.", max_seconds=0.08))

        def listen() -> bytes:
            with client.stream_synthesize("Hello.") as stream:
                return b"".join(chunk.audio_content for chunk in stream)

        killing = asyncio.create_task(kill_one(gateways))
        heard = await asyncio.gather(asyncio.to_thread(listen), asyncio.to_thread(listen))
        await killing
    assert list(heard) == [AUDIO] * 2


async def test_resuming_can_be_turned_off(gateways: Gateways) -> None:
    deployment = gateways.deployment
    deployment.codec.script.pause_at = HELD_AT
    async with csm_client.AsyncClient(gateways.target, timeout_s=100, resumes=0) as client:
        await warm_up(deployment, lambda: client.synthesize("Hello.", max_seconds=0.08))

        heard = [b"", b""]

        async def listen(index: int) -> None:
            try:
                async for chunk in client.stream_synthesize("Hello."):
                    heard[index] += chunk.audio_content
            except IncompleteAudioError as error:
                assert len(heard[index]) == 2 * error.received_sample_count

        killing = asyncio.create_task(kill_one(gateways, lambda: all(heard)))
        await asyncio.gather(listen(0), listen(1))
        await killing
    broken, whole = sorted(heard, key=len)
    assert whole == AUDIO and broken == AUDIO[: len(broken)] and 0 < len(broken) < len(AUDIO)
