"""Stages of a fake deployment that pause, go on or are killed in a call, and the failovers that are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FakeCodec, FakeEngine


def pause(fakes: Sequence[FakeEngine | FakeCodec], frame: int) -> None:
    for fake in fakes:
        fake.script.pause_at = frame


async def paused(fakes: Sequence[FakeEngine | FakeCodec]) -> int:
    """Index of the one that has come to its pause."""
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
    """The one that pauses; the other runs through."""
    index = await paused(deployment.engines)
    go_on([deployment.engines[1 - index]])
    await deployment.engine_servers[index].drain(0)


async def kill_codec(deployment: FakeDeployment) -> None:
    index = await paused(deployment.codecs)
    go_on([deployment.codecs[1 - index]])
    await deployment.codec_servers[index].drain(0)


def failovers(deployment: FakeDeployment, stage: str, outcome: str) -> float:
    value = deployment.gateway.server.metrics.registry.get_sample_value
    labels = {"stage": stage, "outcome": outcome}
    count = value("tts_failovers_total", labels) or 0
    assert (value("tts_repairs_total", labels) or 0) == count, "the former name counts the same"
    return count
