"""A gateway that is killed under one utterance: what the engine has made is not made again, and no byte differs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import csm_client
import pytest

from services.gateway.rpc.checkpoints.utterances import CHECKPOINT_FRAMES
from tests.clients.python.lost_gateway.test_lost_gateway import AUDIO, FRAMES, Gateways, Listener, running_gateways
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ, CallRecord, Script
from tests.support.waits import eventually

pytestmark = pytest.mark.timeout(120)

MESSAGE_FRAMES = 4  # of the stand-in
# Frames since the last checkpoint. The kill may come between audio and the checkpoint that follows it.
MOST_UNTOLD = 2 * MESSAGE_FRAMES + CHECKPOINT_FRAMES - 1
THIRDS = (15, 30, 45)  # frames made before the loss


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    async with running_gateways(tmp_path, seals=True, count=3) as running:
        yield running


def made_by(call: CallRecord) -> int:
    return call.frame_count - call.request.resume_frames.frame_count


def heard_frames(listener: Listener) -> float:
    if listener.stream.header is None:
        return 0
    rate_hz = listener.stream.header.audio_format.sample_rate_hertz
    return sum(chunk.sample_count for chunk in listener.chunks) / rate_hz * SAMPLE_RATE_HZ / FRAME_SAMPLES


async def lose(gateways: Gateways, held_at: int, heard: Callable[[], float], then: Script) -> None:
    """Kills the gateway of the only stream, whose engine is held at that frame, once its caller has heard so far."""
    engine = gateways.deployment.engine
    async with asyncio.timeout(60):
        await engine.script.paused.wait()
        await eventually(lambda: heard() >= held_at - 3)  # which encoders may hold back
        engine.script, lost = then, engine.calls[-1]
        gateways.kill_maker_of(lost)
        await lost.ended.wait()


async def hear_and_lose(gateways: Gateways, losses: tuple[int, ...], **options: Any) -> bytes:
    scripts = [*(Script(pause_at=frame) for frame in losses), Script()]
    gateways.deployment.engine.script = scripts[0]
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        stream = client.stream_synthesize("Hello.", seed=7, **options)
        listener = Listener(stream)
        for held_at, then in zip(losses, scripts[1:], strict=True):
            await lose(gateways, held_at, partial(heard_frames, listener), then)
        return await listener.task


async def check(gateways: Gateways, losses: tuple[int, ...], **options: Any) -> None:
    """No byte differs, and each frame is made once: but those that the caller had not been told of."""
    heard = await hear_and_lose(gateways, losses, **options)
    calls = gateways.deployment.engine.calls
    assert len(calls) == 1 + len(losses)
    assert calls[-1].frame_count == FRAMES
    assert sum(map(made_by, calls)) <= FRAMES + MOST_UNTOLD * len(losses)
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        undisturbed = await client.stream_synthesize("Hello.", seed=7, **options).read_all()
    assert heard == undisturbed.samples and (options or heard == AUDIO)


async def test_an_utterance_resumes_at_a_second_and_a_third_gateway(gateways: Gateways) -> None:
    await check(gateways, (15, 45))
    decoded = [call.frame_count for call in gateways.deployment.codec.calls[:-1]]
    again = [call.request.checkpoint for call in gateways.deployment.codec.calls[:-1]]
    assert len(decoded) == 3 and not again[0] and all(again[1:])  # nor are they decoded again


@pytest.mark.parametrize("encoding", ["pcm", "opus"])
async def test_a_whole_text_resumes_in_a_later_sentence(gateways: Gateways, encoding: Any) -> None:
    """The client keeps one list of checkpoints, and knows of no sentence."""
    engine, num_first = gateways.deployment.engine, 10
    engine.frame_counts, engine.script = [num_first], Script(pause_at=15)
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        listener = Listener(client.stream_synthesize("One. Two.", seed=7, encoding=encoding))
        for held_at, then in ((15, Script(pause_at=45)), (45, Script())):
            await lose(gateways, held_at, lambda at=held_at: heard_frames(listener) - num_first, then)  # type: ignore[misc]
        heard = await listener.task
        calls = list(engine.calls)
        engine.frame_counts = [num_first]
        undisturbed = await client.stream_synthesize("One. Two.", seed=7, encoding=encoding).read_all()
    assert heard == undisturbed.samples
    assert [call.request.segments[-1].text for call in calls] == ["One.", "Two.", "Two.", "Two."]
    assert sum(map(made_by, calls)) <= num_first + FRAMES + 2 * MOST_UNTOLD


@pytest.mark.slow
@pytest.mark.parametrize("held_at", THIRDS)
@pytest.mark.parametrize("encoding", ["pcm", "wav", "mulaw", "alaw", "flac", "opus", "mp3", "aac"])
async def test_each_encoding_resumes_in_each_third_of_the_stream(
    gateways: Gateways, encoding: str, held_at: int
) -> None:
    await check(gateways, (held_at,), encoding=encoding)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"sample_rate_hz": 8_000}, {"chunk_seconds": 0.2}], ids=["other rate", "chunks"])
async def test_other_rates_and_chunk_lengths_resume_twice(gateways: Gateways, options: Any) -> None:
    await check(gateways, (15, 30), **options)


@pytest.mark.slow
async def test_the_synchronous_client_resumes_an_utterance(gateways: Gateways) -> None:
    engine, heard = gateways.deployment.engine, bytearray()
    engine.script = Script(pause_at=30)

    def listen(stream: csm_client.SpeechStream) -> None:
        for chunk in stream:
            heard.extend(chunk.audio_content)

    with csm_client.Client(gateways.target, timeout_s=100) as client:
        listening = asyncio.create_task(asyncio.to_thread(listen, client.stream_synthesize("Hello.")))
        await lose(gateways, 30, lambda: len(heard) / 2 / FRAME_SAMPLES, Script())
        await listening
    assert heard == AUDIO
    assert sum(map(made_by, engine.calls)) <= FRAMES + MOST_UNTOLD
