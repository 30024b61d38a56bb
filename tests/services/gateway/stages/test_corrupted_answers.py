"""A stage whose answers are no messages is lost: another replica goes on, and the caller hears nothing of it. One whose
answers contradict each other has failed.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.gateway.stages.silence import SilenceWatch
from tests.support.fake_deployment import failure, fake_deployment
from tests.support.fake_stages import numbered_audio


@pytest.mark.parametrize("stage", ["engine", "codec"])
async def test_a_corrupted_answer_is_a_loss(
    stream_request: tts_pb2.StreamSynthesizeRequest, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    seen: list[int] = []
    messages = SilenceWatch.__anext__

    async def sometimes_none(self: Any) -> Any:
        message = await messages(self)
        if message.DESCRIPTOR.full_name.startswith(f"csm.{stage}.") and message.WhichOneof("event") != "started":
            seen.append(1)
            if len(seen) == 2:
                return None  # gRPC's result for bytes that are no message
        return message

    monkeypatch.setattr(SilenceWatch, "__anext__", sometimes_none)
    async with fake_deployment(replica_count=2, failover_wait_seconds=20.0) as deployment:
        await deployment.gateway.wait_ready()
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            messages_heard = [message async for message in stub.StreamSynthesize(stream_request, timeout=60)]
        audio = b"".join(message.audio_chunk.audio_content for message in messages_heard)
        assert audio == numbered_audio(range(10))
        value = deployment.gateway.server.metrics.registry.get_sample_value
        assert value("tts_failovers_total", {"stage": stage, "outcome": "resumed"}) == 1


@pytest.mark.parametrize(
    ("stage", "field"), [("engine", "frame_count"), ("codec", "frame_count"), ("codec", "sample_count")]
)
async def test_a_wrong_total_is_a_failure(
    stream_request: tts_pb2.StreamSynthesizeRequest, monkeypatch: pytest.MonkeyPatch, stage: str, field: str
) -> None:
    """Otherwise a stream that lost messages on its way would look complete."""
    messages = SilenceWatch.__anext__

    async def counted_wrong(self: Any) -> Any:
        message = await messages(self)
        if message.DESCRIPTOR.full_name.startswith(f"csm.{stage}.") and message.HasField("complete"):
            setattr(message.complete, field, getattr(message.complete, field) + 1)
        return message

    monkeypatch.setattr(SilenceWatch, "__anext__", counted_wrong)
    async with fake_deployment() as deployment, grpc.aio.insecure_channel(deployment.target) as channel:
        await deployment.gateway.wait_ready()
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert (await failure(stub.StreamSynthesize(stream_request))).reason == "INTERNAL"
