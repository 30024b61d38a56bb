"""A codec's refusal is recognised as one, however much is written to the codec, and costs no failover."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import CodecBusyError
from services.common.rpc.calls import Context
from services.common.rpc.incoming import lingering
from services.gateway.synthesis import codec_stream
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES, FakeCodec

Code = grpc.StatusCode
Message = tts_pb2.StreamSynthesizeTextRequest
FULL_S = 0.6
FULL = "All slots are taken and 64 streams wait."


class FullBetweenSentences(FakeCodec):
    """A codec without room for a while after the first stream of each call."""

    def __init__(self, full_s: float = FULL_S) -> None:
        super().__init__()
        self._full_s = full_s
        self.full_until_s: dict[str, float] = {}  # by request id

    async def StreamDecode(self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], context: Context) -> None:
        call = {key: str(value) for key, value in context.invocation_metadata() or ()}["x-request-id"]
        if time.monotonic() < self.full_until_s.get(call, 0.0):
            raise CodecBusyError(FULL)
        await super().StreamDecode(requests, context)
        self.full_until_s.setdefault(call, time.monotonic() + self._full_s)


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment(codec=FullBetweenSentences) as running:
        await running.gateway.wait_ready()
        yield running


def failovers(deployment: FakeDeployment) -> float:
    registry = deployment.gateway.server.metrics.registry
    outcomes = ("resumed", "failed", "exhausted")
    values = [
        registry.get_sample_value("tts_failovers_total", {"stage": "codec", "outcome": outcome}) for outcome in outcomes
    ]
    return sum(value or 0 for value in values)


async def say(tts: Any, config: tts_pb2.StreamSynthesizeRequest) -> int:
    """Speaks a text of two sentences. Returns its samples."""
    messages = [Message(config=config), Message(text=tts_pb2.TextPiece(text="One is here. Two is here."))]
    answers = [message async for message in tts.StreamSynthesizeText(messages, timeout=60)]
    return answers[-1].summary.stats.sample_count


async def every_text_survives(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest, count: int
) -> None:
    config.input.text = ""
    lengths = await asyncio.gather(*(say(tts, config) for _ in range(count)))
    assert lengths == [2 * 10 * FRAME_SAMPLES] * count
    assert isinstance(deployment.codec, FullBetweenSentences)
    assert len(deployment.codec.full_until_s) == count
    assert failovers(deployment) == 0


async def test_texts_survive_a_codec_that_is_full_between_two_sentences(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    await every_text_survives(deployment, tts, stream_request, 8)


@pytest.mark.slow
async def test_80_of_80_texts_survive_a_codec_that_is_full_between_two_sentences(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    await every_text_survives(deployment, tts, stream_request, 80)


async def test_a_text_s_wait_for_a_full_stage_is_bounded(stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    stream_request.input.text = ""
    async with (
        fake_deployment(codec=lambda: FullBetweenSentences(math.inf), full_wait_seconds=0.1) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        messages = [
            Message(config=stream_request),
            Message(text=tts_pb2.TextPiece(text="One is here. Two is here.")),
        ]
        error = await failure(tts.StreamSynthesizeText(messages, timeout=60))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "QUEUE_FULL")
    assert error.metadata["delivered_sample_count"] == str(10 * FRAME_SAMPLES)


async def test_50_of_50_refusals_with_frames_buffered_are_refusals(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """The engine has finished before the codec is called."""
    deployment.engine.frame_count = 200
    stream_request.stream_config.chunk_duration.FromMilliseconds(80)
    deployment.codec.refusals = [CodecBusyError(FULL) for _ in range(50)]
    errors = await asyncio.gather(*(failure(tts.StreamSynthesize(stream_request, timeout=60)) for _ in range(50)))
    assert [(error.code, error.reason) for error in errors] == [(Code.UNAVAILABLE, "QUEUE_FULL")] * 50
    assert failovers(deployment) == 0


@pytest.mark.parametrize("is_known", [True, False], ids=["known to be", "beside newer ones"])
async def test_a_codec_of_an_earlier_version_gets_its_frames(
    stream_request: tts_pb2.StreamSynthesizeRequest, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def earlier() -> FakeCodec:
        codec = FakeCodec()
        codec.sends_started, codec.info.sends_started = False, not is_known
        return codec

    monkeypatch.setattr(codec_stream, "OLD_CODEC_AFTER_S", 60.0 if is_known else 0.1)
    async with (
        fake_deployment(codec=earlier) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        answers = [message async for message in tts.StreamSynthesize(stream_request, timeout=20)]
    assert answers[-1].summary.stats.sample_count == 10 * FRAME_SAMPLES
    assert [call.request.awaits_started for call in deployment.codec.calls] == [not is_known], "no promise is broken"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that, on a machine of any speed, waits while its caller still writes."""
    for name in ("QUIET_S", "LINGER_S"):
        monkeypatch.setattr(lingering, name, 60.0)


@pytest.mark.usefixtures("patience")
async def test_a_caller_that_is_still_writing_gets_the_error(
    tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """The caller's writes do not hide the status."""
    stream_request.sampling_params.temperature = 9.0
    messages = [Message(config=stream_request), *[Message(text=tts_pb2.TextPiece(text="word "))] * 200]
    for _ in range(8):
        error = await failure(tts.StreamSynthesizeText(messages, timeout=60))
        assert error.code is Code.INVALID_ARGUMENT


@pytest.mark.usefixtures("patience")
async def test_a_caller_that_is_still_writing_gets_ok(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """The audio reaches its limit before all words have come."""
    stream_request.input.text = ""
    stream_request.max_audio_duration.FromMilliseconds(800)
    messages = [Message(config=stream_request), *[Message(text=tts_pb2.TextPiece(text="A word. "))] * 500]
    for _ in range(8):
        answers = [message async for message in tts.StreamSynthesizeText(messages, timeout=60)]
        assert answers[-1].summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION
