"""For tests of failover: pauses, resumes and kills fake stages during a call, and reads the failover metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from csm.v1 import tts_pb2

from services.common.rpc.status import StatusError
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, FakeCodec, FakeEngine, fake_frames, numbered_audio

FRAMES = 40  # of each stream


def pause(fakes: Sequence[FakeEngine | FakeCodec], frame: int) -> None:
    for fake in fakes:
        fake.script.pause_at = frame


async def paused(fakes: Sequence[FakeEngine | FakeCodec]) -> int:
    """Waits until one of the fakes has paused. Returns its index."""
    waiting = [asyncio.create_task(fake.script.paused.wait()) for fake in fakes]
    async with asyncio.timeout(60):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return [fake.script.paused.is_set() for fake in fakes].index(True)


def go_on(fakes: Sequence[FakeEngine | FakeCodec]) -> None:
    for fake in fakes:
        fake.script.resume.set()


async def kill_engine(deployment: FakeDeployment) -> None:
    """Kills the engine that has paused. The other one does not pause any more."""
    index = await paused(deployment.engines)
    go_on([deployment.engines[1 - index]])
    await deployment.engine_servers[index].drain(0)


async def kill_codec(deployment: FakeDeployment) -> None:
    """Kills the codec that has paused. The other one does not pause any more."""
    index = await paused(deployment.codecs)
    go_on([deployment.codecs[1 - index]])
    await deployment.codec_servers[index].drain(0)


async def kill_all_engines(deployment: FakeDeployment) -> None:
    """Kills the engine that has paused last, so that the stream finds no other one."""
    index = await paused(deployment.engines)
    for server in (deployment.engine_servers[1 - index], deployment.engine_servers[index]):
        await server.drain(0)


def failovers(deployment: FakeDeployment, stage: str, outcome: str) -> float:
    value = deployment.gateway.server.metrics.registry.get_sample_value
    labels = {"stage": stage, "outcome": outcome}
    count = value("tts_failovers_total", labels) or 0
    assert (value("tts_repairs_total", labels) or 0) == count, "under the former name too"
    return count


async def assert_undisturbed(call: Any) -> None:
    """Reads a stream to its end. It must have all samples, without a gap, and all codes."""
    messages = [message async for message in call]
    chunks = [message.audio_chunk for message in messages[1:-1]]
    position = 0
    for chunk in chunks:
        assert chunk.sample_offset == position
        position += chunk.sample_count
    assert b"".join(chunk.audio_content for chunk in chunks) == numbered_audio(range(FRAMES))
    summary = messages[-1].summary
    assert summary.codes.codes == fake_frames(0, FRAMES).codes
    assert summary.stats.frame_count == FRAMES and summary.stats.sample_count == FRAMES * FRAME_SAMPLES
    assert summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH


def change_watermark(codec: FakeCodec) -> None:
    """Gives a codec another watermark: its `info` stays the same, but it refuses the others' key and states."""
    refusal = StatusError(
        grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH", "config.checkpoint was made by another codec."
    )
    codec.refusals = [lacks_key(), refusal] * 500


def lacks_key() -> StatusError:
    """A codec's error for the id of an unknown key."""
    return StatusError(grpc.StatusCode.NOT_FOUND, "WATERMARK_KEY_NOT_FOUND", "The keyring has no key 'key-1'.")
