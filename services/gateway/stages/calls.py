"""Calls to a stage: streams with a timeout on silence, and short calls with retries. It knows no method."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from services.common.outcomes import is_task_cancelled
from services.gateway.stages.errors import StageError, StageName, checked, from_stage, is_loss, unreachable
from services.gateway.stages.known_replicas import KnownReplicas
from services.gateway.stages.reloading_channel import ReloadingChannel, Stub
from services.gateway.stages.silence import SilenceWatch

log = logging.getLogger("csm.gateway")

MOST_LOSSES = 2  # after which a call is still retried


async def messages(
    stage: StageName,
    channel: ReloadingChannel[Stub],
    replicas: KnownReplicas,
    open_call: Callable[[Stub], Any],
    silence_s: float,
) -> AsyncGenerator[Any, None]:
    """The messages of a stream, without progress. A silent replica counts as lost, and later calls avoid it."""
    async with calling(stage, channel, replicas) as stub:
        call = open_call(stub)
        watch, is_first = SilenceWatch(call, silence_s), True
        try:
            async for message in watch:
                if is_first:  # the end of a stream may be far
                    await replicas.note_start(call)
                    is_first = False
                if checked(stage, message).WhichOneof("event") != "progress":
                    yield message
            await replicas.note_end(call)
        except asyncio.CancelledError:
            if is_task_cancelled():
                raise
            if watch.silent:
                log.warning("the %s has been silent for %g s", stage.lower(), silence_s)
                channel.renew(stub)
            raise unreachable(stage) from None
        finally:
            watch.close()
            call.cancel()


async def ask(
    stage: StageName,
    channel: ReloadingChannel[Stub],
    replicas: KnownReplicas,
    open_call: Callable[[Stub, float], Any],
    timeout_s: float,
    silence_s: float,
) -> Any:
    """The response of a short call. Retried when its replica is lost, over a new channel when it is silent."""
    until_s, losses = time.monotonic() + timeout_s, 0
    while True:
        left_s = max(0.0, until_s - time.monotonic())
        try:
            async with calling(stage, channel, replicas) as stub:
                call = open_call(stub, min(left_s, silence_s or left_s))
                answer = checked(stage, await call)
                await replicas.note_end(call)
                return answer
        except StageError as error:
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and 0 < silence_s < left_s:
                channel.renew(stub)
            elif is_loss(error) and losses < MOST_LOSSES:
                losses += 1
            else:
                raise


@asynccontextmanager
async def calling(stage: StageName, channel: ReloadingChannel[Stub], replicas: KnownReplicas) -> AsyncIterator[Stub]:
    """The stub for one call. Its failures are raised as StageError."""
    async with channel.call() as stub:
        try:
            yield stub
        except grpc.aio.AioRpcError as error:
            failure = from_stage(stage, error)
            trailers: Any = error.trailing_metadata()  # the stubs name the type of the synchronous API
            failure.replica = replicas.note(trailers)
            failure.known_replicas = replicas.ids()
            raise failure from None
