"""Short calls to a stage: they are retried when the replica is lost or silent, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2
from grpc.aio import AioRpcError, Metadata
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from services.gateway.stages.backends import GrpcEngine
from services.gateway.stages.calls import MOST_LOSSES
from services.gateway.stages.errors import StageError

ANSWER = engine_pb2.GetModelInfoResponse(model_version="fake/1")
PROMPT = engine_pb2.GetVoicePromptResponse(text="Hello.")


def failure(code: grpc.StatusCode, message: str) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), message, "")


LOST = failure(grpc.StatusCode.UNAVAILABLE, "Stream removed (ping timeout)")
SILENT = failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
REFUSED = failure(grpc.StatusCode.FAILED_PRECONDITION, "no")


class Call:
    """A call that ends with an answer or an error."""

    def __init__(self, end: Any) -> None:
        self._end = end

    def __await__(self) -> Generator[None, None, Any]:
        yield
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    async def trailing_metadata(self) -> Metadata:
        return Metadata()


class Channel:
    """A channel whose calls end as listed, one after the other; further calls end like the last one."""

    renewed_at_s = float("-inf")

    def __init__(self, ends: Sequence[Any]) -> None:
        self._ends = ends
        self.num_calls = self.num_renewals = 0

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Channel]:
        yield self

    def renew(self, stub: Channel) -> None:
        self.num_renewals += 1

    def GetModelInfo(self, request: Any, **options: Any) -> Call:
        end = self._ends[min(self.num_calls, len(self._ends) - 1)]
        self.num_calls += 1
        return Call(end)

    GetVoicePrompt = GetModelInfo


def engine_behind(channel: Any) -> GrpcEngine:
    return GrpcEngine(channel, channel, metrics=GatewayMetrics(CollectorRegistry()), max_full=3, silence_s=3.0)


async def test_a_call_that_loses_its_replica_is_retried() -> None:
    channel = Channel([LOST, LOST, ANSWER])
    assert await engine_behind(channel).model_info(20.0) == ANSWER
    assert (channel.num_calls, channel.num_renewals) == (3, 0)


async def test_a_call_for_the_prompt_of_a_voice_is_retried() -> None:
    channel = Channel([LOST, PROMPT])
    assert await engine_behind(channel).voice_prompt("ada", 20.0) == PROMPT
    assert channel.num_calls == 2


async def test_a_call_to_a_silent_replica_is_retried_over_new_connections() -> None:
    channel = Channel([SILENT, ANSWER])
    assert await engine_behind(channel).model_info(20.0) == ANSWER
    assert (channel.num_calls, channel.num_renewals) == (2, 1)


@pytest.mark.parametrize(
    ("end", "reason", "num_calls"),
    [(LOST, "ENGINE_UNREACHABLE", 1 + MOST_LOSSES), (REFUSED, "FAILED_PRECONDITION", 1)],
    ids=["lost", "refused"],
)
async def test_retries_of_a_call_are_bounded(end: AioRpcError, reason: str, num_calls: int) -> None:
    channel = Channel([end])
    with pytest.raises(StageError) as raised:
        await engine_behind(channel).model_info(20.0)
    assert (raised.value.reason, channel.num_calls) == (reason, num_calls)
