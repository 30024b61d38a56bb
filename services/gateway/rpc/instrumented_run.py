"""Runs a synthesis, or a part of one, and reports its outcome to metrics and log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from csm.v1 import tts_pb2

from services.common.rpc.incoming.lingering import is_caller_gone
from services.common.rpc.status import StatusError, internal
from services.common.telemetry import logs
from services.gateway.metrics import GatewayMetrics
from services.gateway.rpc import responses
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.deadline import PASSED, Deadline
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.text_synthesis import TextSynthesis

Finish = Callable[[SynthesisResult], Awaitable[None]]


async def instrumented_run(
    synthesis: Synthesis | TextSynthesis,
    catalog: Catalog,
    deadline: Deadline,
    deliver: Deliver,
    metrics: GatewayMetrics,
    finish: Finish | None,
) -> SynthesisResult:
    """Like `Synthesis.run`; also raises StatusError DEADLINE_EXCEEDED when the deadline passes first.

    finish: sends the last message, if there is one, also within the deadline. Only then the synthesis counts as a
    success.
    """
    try:
        async with instrumented(metrics, deadline, lambda: synthesis.phase):
            result = await synthesis.run(deadline, deliver)
            if finish is not None:
                await finish(result)
    finally:
        audio_s = synthesis.delivered_samples / catalog.sample_rate_hz
        metrics.audio_seconds.inc(audio_s)
        logs.annotate(phase=synthesis.phase, audio_seconds=round(audio_s, 3))
    metrics.queue_seconds.observe(result.queue_s)
    if audio_s:
        metrics.first_audio_seconds.observe(result.first_audio_s)
        metrics.real_time_factor.observe(result.making_s / audio_s)
    reason = tts_pb2.FinishReason.Name(responses.finish_reason(result))
    metrics.finished.labels(reason.lower().removeprefix("finish_reason_")).inc()
    logs.annotate(
        queue_ms=round(result.queue_s * 1000, 1),
        first_audio_ms=round(result.first_audio_s * 1000, 1),
        frames=result.complete.frame_count,
        finish_reason=reason,
    )
    return result


@asynccontextmanager
async def instrumented(metrics: GatewayMetrics, deadline: Deadline, phase: Callable[[], str]) -> AsyncIterator[None]:
    """Counts failures and cancellations of the block, and enforces the deadline: raises StatusError DEADLINE_EXCEEDED.

    phase: the label of cancellations
    """
    with counted(metrics, phase), metrics.running_requests.track_inprogress():
        async with deadline.kept():
            yield


@contextmanager
def counted(metrics: GatewayMetrics, phase: Callable[[], str]) -> Iterator[None]:
    """Counts failures and cancellations of the block. Each failure of a call passes through one such block.

    phase: the label of cancellations
    """
    try:
        yield
    except StatusError as error:
        counter = metrics.cancelled.labels(phase()) if error.reason == PASSED else metrics.failed.labels(error.reason)
        counter.inc()
        raise
    except asyncio.CancelledError:  # the caller has cancelled between two writes
        metrics.cancelled.labels(phase()).inc()
        raise
    except Exception as error:
        if is_caller_gone(error):  # the caller has cancelled during a write
            metrics.cancelled.labels(phase()).inc()
        else:  # a bug of the server; the caller gets INTERNAL
            metrics.failed.labels(internal().reason).inc()
        raise
