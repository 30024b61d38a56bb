"""The gateway tells stages which calls continue audio that a caller already plays: those go first in their queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2

from csm_bundle.errors import EngineBusyError
from services.gateway.rpc import syntheses
from services.gateway.synthesis import clip
from services.gateway.synthesis.clip import Playout
from services.gateway.synthesis.failover import Failovers
from tests.services.gateway.synthesis.lost_stages import (
    FRAMES,
    failovers,
    kill_codec,
    kill_engine,
    pause,
    paused,
)
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, fake_deployment, read_until_audio
from tests.support.fake_stages import FRAME_SAMPLES, FakeCodec, FakeEngine
from tests.support.text_streams import messages_of
from tests.support.waits import eventually

MADE_S = 13 * 0.08  # of audio that an engine has made when it pauses
FAILOVER_S = 20.0


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment(replica_count=2, failover_wait_seconds=FAILOVER_S, full_wait_seconds=60.0) as running:
        for engine in running.engines:
            engine.frame_count = FRAMES
        await running.gateway.wait_ready()
        yield running


def listener_flags(fakes: Sequence[FakeEngine | FakeCodec]) -> list[bool]:
    """`has_listener` of all calls to a stage, sorted."""
    return sorted(call.request.has_listener for fake in fakes for call in fake.calls)


async def test_a_stream_that_lost_its_engine_is_marked_as_having_a_listener(
    deployment: FakeDeployment,
    tts: Any,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(clip, "time", SimpleNamespace(monotonic=lambda: now_s))  # nothing of the audio is played
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await kill_engine(deployment)
    await _read_to_summary(call)
    assert listener_flags(deployment.engines) == [False, True]
    assert listener_flags(deployment.codecs) == [False]
    first_s, second_s = sorted(lead_s for engine in deployment.engines for lead_s in _leads_s(engine))
    assert first_s == 0.0 and second_s == pytest.approx(MADE_S)


def test_silence_counts_waits_for_audio_and_not_the_writer_s_pauses(clock: Clock) -> None:
    playout = Playout()
    playout.begin()
    clock.put_forward(1.0)
    playout.add(3.0)
    clock.put_forward(2.0)
    assert playout.lead_s == pytest.approx(1.0, abs=0.1)
    clock.put_forward(60.0)
    playout.begin()
    assert playout.lead_s == pytest.approx(0.0, abs=0.1)
    clock.put_forward(5.0)
    assert playout.lead_s == pytest.approx(-5.0, abs=0.1)
    playout.add(2.0)
    assert playout.lead_s == pytest.approx(2.0, abs=0.1)


async def test_a_stream_without_room_reports_how_long_it_has_been_silent(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock
) -> None:
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    refused = deployment.engines[1 - await paused(deployment.engines)]
    refused.refusal = EngineBusyError("The queue is full.")
    killed = asyncio.create_task(kill_engine(deployment))
    await eventually(lambda: bool(refused.calls))
    clock.put_forward(20.0)
    refused.refusal = None
    await killed
    await _read_to_summary(call)
    leads_s = _leads_s(refused)
    assert leads_s[-1] <= leads_s[0] - 20.0 <= MADE_S - 20.0


async def test_a_stream_that_lost_its_codec_is_marked_as_having_a_listener(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.codecs, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await kill_codec(deployment)
    await _read_to_summary(call)
    assert listener_flags(deployment.codecs) == [False, True]


async def test_a_stream_lost_before_its_first_audio_has_no_priority(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 0)
    call = tts.StreamSynthesize(stream_request)
    await kill_engine(deployment)
    await _read_to_summary(call)
    assert listener_flags(deployment.engines) == [False, False]


async def test_later_sentences_of_a_text_have_a_listener(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.ClearField("input")
    await _read_to_summary(tts.StreamSynthesizeText(iter(messages_of(stream_request))))
    assert listener_flags(deployment.engines) == listener_flags(deployment.codecs) == [False, True, True]


@pytest.mark.parametrize("heard_frames", [0, 12, FRAMES, FRAMES + 10])
async def test_audio_played_before_a_loss_does_not_count_as_lead(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, heard_frames: int
) -> None:
    """When another gateway speaks a text again from its start."""
    stream_request.input.text = "One is first. Two is last."
    stream_request.stream_config.heard_sample_count = heard_frames * FRAME_SAMPLES
    began_s = time.monotonic()
    await _read_to_summary(tts.StreamSynthesize(stream_request))
    took_s = time.monotonic() - began_s
    (lead_s,) = (lead_s for engine in deployment.engines for lead_s in _leads_s(engine) if lead_s)
    unheard_s = max(0, FRAMES - heard_frames) * 0.08
    assert unheard_s - took_s <= lead_s <= unheard_s


async def test_the_end_of_a_text_whose_mark_is_reported_last_has_a_listener_too(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    for codec in deployment.codecs:
        codec.coverages = [codec_pb2.WATERMARK_COVERAGE_PARTIAL] * 4
    stream_request.ClearField("input")
    await _read_to_summary(tts.StreamSynthesizeText(iter(messages_of(stream_request))))
    assert listener_flags(deployment.codecs) == [False, True, True, True]


async def test_a_listener_whose_stage_was_lost_waits_longer_for_full_ones_than_for_none(
    deployment: FakeDeployment,
    tts: Any,
    stream_request: tts_pb2.StreamSynthesizeRequest,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syntheses, "Failovers", partial(Failovers, clock=clock))
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    full = deployment.engines[1 - await paused(deployment.engines)]
    full.refusal = EngineBusyError("The queue is full.")
    reading = asyncio.ensure_future(_read_to_summary(call))
    await kill_engine(deployment)
    await eventually(lambda: bool(full.calls))
    clock.put_forward(1.5 * FAILOVER_S)
    refused = len(full.calls)
    await eventually(lambda: len(full.calls) > refused + 1)  # one may have been on its way
    full.refusal = None
    await reading
    assert failovers(deployment, "engine", "resumed") == 1


def _leads_s(engine: FakeEngine) -> list[float]:
    """`playout_lead` of the engine's calls: the audio that the caller still had to play, in seconds."""
    return [call.request.playout_lead.ToNanoseconds() / 1e9 for call in engine.calls]


async def _read_to_summary(call: Any) -> None:
    """Reads a call to its end, which must be the summary."""
    message = None
    while (following := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
        message = following
    assert message is not None and message.WhichOneof("event") == "summary"
