"""A gateway in front of fake stages, and stubs to call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2_grpc

from tests.support.fake_deployment import FakeDeployment, fake_deployment


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment() as running:
        yield running


@pytest.fixture
async def channel(deployment: FakeDeployment) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(deployment.target) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment() as running:
        yield running


@pytest.fixture
def shared_deployment(running_deployment: FakeDeployment) -> FakeDeployment:
    """One for tests of a module, which are marked to have the module's loop and let their calls end."""
    running_deployment.forget_calls()
    return running_deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_tts(running_deployment: FakeDeployment) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running_deployment.target) as opened:
        yield tts_pb2_grpc.TextToSpeechServiceStub(opened)  # type: ignore[no-untyped-call]


@pytest.fixture
def tts(channel: grpc.aio.Channel) -> Any:
    return tts_pb2_grpc.TextToSpeechServiceStub(channel)


@pytest.fixture
def watermark(channel: grpc.aio.Channel) -> Any:
    return watermark_pb2_grpc.WatermarkServiceStub(channel)


@pytest.fixture
def stream_request() -> tts_pb2.StreamSynthesizeRequest:
    """A valid request, which tests change."""
    return tts_pb2.StreamSynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="Hello from the other side."),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
    )


@pytest.fixture
def unary_request(stream_request: tts_pb2.StreamSynthesizeRequest) -> tts_pb2.SynthesizeRequest:
    return tts_pb2.SynthesizeRequest(input=stream_request.input, audio_config=stream_request.audio_config)
