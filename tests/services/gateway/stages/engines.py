"""Calls to a gateway in front of several engines or codecs, and which engine serves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csm.v1 import tts_pb2

from csm_bundle.errors import CodecBusyError
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, FakeCodec, FakeEngine, numbered_audio

REPLICAS = 3
Request = tts_pb2.StreamSynthesizeRequest


def named(request: Request, conversation_id: str) -> Request:
    asked = Request()
    asked.CopyFrom(request)
    asked.conversation_id = conversation_id
    return asked


async def say(tts: Any, request: Request, metadata: Any = None) -> bytes:
    messages = [message async for message in tts.StreamSynthesize(request, timeout=60, metadata=metadata)]
    return b"".join(message.audio_chunk.audio_content for message in messages)


def counts(engines: Sequence[FakeEngine]) -> list[int]:
    return [len(engine.calls) for engine in engines]


async def engine_of(tts: Any, deployment: FakeDeployment, request: Request) -> int:
    """Makes a call. Returns the index of the only engine that served it."""
    before = counts(deployment.engines)
    assert await say(tts, request) == numbered_audio(range(10))
    more = [after - earlier for after, earlier in zip(counts(deployment.engines), before, strict=True)]
    assert sum(more) == 1
    return more.index(1)


def metric(deployment: FakeDeployment, name: str, **labels: str) -> float:
    return deployment.gateway.server.metrics.registry.get_sample_value(name, labels) or 0.0


def fill(codec: FakeCodec) -> None:
    """The codec refuses all streams and recordings."""
    full = CodecBusyError("The queue is full.")
    codec.refusal, codec.refusals = full, [full] * 1000


def recording() -> tts_pb2.AudioRecording:
    pcm = tts_pb2.AudioFormat(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=24_000, channel_count=1)
    return tts_pb2.AudioRecording(audio_content=bytes(2 * FRAME_SAMPLES * 3), audio_format=pcm)
