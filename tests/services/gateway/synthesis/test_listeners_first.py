"""Stages are told which calls continue audio that somebody hears: those go first in their queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2

from csm_bundle.errors import EngineBusyError
from tests.services.gateway.synthesis.lost_stages import (
    FRAMES,
    failovers,
    kill_codec,
    kill_engine,
    pause,
)
from tests.support.fake_deployment import FakeDeployment, fake_deployment, read_until_audio
from tests.support.fake_stages import FakeCodec, FakeEngine
from tests.support.text_streams import messages_of


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment(replica_count=2, failover_wait_seconds=0.5, full_wait_seconds=60.0) as running:
        for engine in running.engines:
            engine.frame_count = FRAMES
        await running.gateway.wait_ready()
        yield running


def told(fakes: Sequence[FakeEngine | FakeCodec]) -> list[bool]:
    """What calls of this stage said, those without a listener first."""
    return sorted(call.request.has_listener for fake in fakes for call in fake.calls)


async def test_a_stream_that_lost_its_engine_says_that_somebody_listens(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await kill_engine(deployment)
    await _rest(call)
    assert told(deployment.engines) == [False, True]
    assert told(deployment.codecs) == [False]


async def test_a_stream_that_lost_its_codec_says_that_somebody_listens(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.codecs, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await kill_codec(deployment)
    await _rest(call)
    assert told(deployment.codecs) == [False, True]


async def test_a_stream_that_was_lost_before_its_first_audio_waits_as_all_others(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 0)
    call = tts.StreamSynthesize(stream_request)
    await kill_engine(deployment)
    await _rest(call)
    assert told(deployment.engines) == [False, False]


async def test_later_sentences_of_a_text_have_a_listener(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.ClearField("input")
    await _rest(tts.StreamSynthesizeText(iter(messages_of(stream_request))))
    assert told(deployment.engines) == told(deployment.codecs) == [False, True, True]


async def test_so_has_the_end_of_a_text_whose_mark_is_told_last(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    for codec in deployment.codecs:
        codec.coverages = [codec_pb2.WATERMARK_COVERAGE_PARTIAL] * 4
    stream_request.ClearField("input")
    await _rest(tts.StreamSynthesizeText(iter(messages_of(stream_request))))
    assert told(deployment.codecs) == [False, True, True, True]


async def test_a_listener_whose_stage_was_lost_waits_longer_for_full_ones_than_for_none(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    for engine in deployment.engines:
        engine.refusal = EngineBusyError("The queue is full.")
    reading = asyncio.ensure_future(_rest(call))
    await kill_engine(deployment)
    await asyncio.sleep(1.5)  # thrice the wait for a replica that is gone
    for engine in deployment.engines:
        engine.refusal = None
    await reading
    assert failovers(deployment, "engine", "resumed") == 1


async def _rest(call: Any) -> None:
    """Reads to the end, which must be a good one."""
    message = None
    while (following := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
        message = following
    assert message is not None and message.WhichOneof("event") == "summary"
