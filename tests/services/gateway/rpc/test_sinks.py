"""Writes to the caller: a write that is under way when the call ends is completed, unless the caller reads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from csm_bundle.sampling import SamplingParams
from services.common.rpc.status import StatusError
from services.gateway.audio.resampling.continuation import Place
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import SynthesisPlan
from tests.support.clock import Clock

SAMPLES = b"\0" * 3840  # one frame


class SlowContext:
    """A call whose caller reads each message only when the test says so."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.writing = asyncio.Event()
        self.written: list[tts_pb2.StreamSynthesizeResponse] = []
        self.cancelled_writes = 0

    async def write(self, message: tts_pb2.StreamSynthesizeResponse) -> None:
        self.writing.set()
        try:
            await self.taken.wait()
        except asyncio.CancelledError:
            self.cancelled_writes += 1
            raise
        self.written.append(message)


async def settle() -> None:
    """Lets all tasks go as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


MakeSink = Callable[..., tuple[StreamSink, SlowContext]]


@pytest.fixture
def make_sink() -> MakeSink:
    plan = SynthesisPlan(
        request_id="r", text="Hi.", speaker=0, voice="ada", turns=(), sampling=SamplingParams(seed=1), max_frames=10,
            max_utterance_frames=10,
        encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hz=24_000, return_codes=False, chunk_frames=0,
        first_batch_frames=1, max_batch_frames=0, live=True,
    )  # fmt: skip
    codec = codec_pb2.GetCodecInfoResponse(codec=rvq_pb2.CodecIdentity(sample_rate_hertz=24_000))

    def make(
        write_timeout_s: float = 30.0, least_pace: float = 0.0, place: Place | None = None
    ) -> tuple[StreamSink, SlowContext]:
        context = SlowContext()
        catalog = Catalog(engine_pb2.GetModelInfoResponse(), codec)
        sink = StreamSink(
            context,  # type: ignore[arg-type]
            plan,
            catalog,
            write_timeout_s,
            tts_pb2.StreamSynthesizeResponse,
            least_pace=least_pace,
            place=place,
            resumed=tts_pb2.SynthesisHeader(),
        )
        return sink, context

    return make


async def test_a_write_under_way_is_not_cancelled_with_the_work_that_began_it(make_sink: MakeSink) -> None:
    """After a cancelled write grpc.aio can lose the status of an aborted call, and the caller waits for ever."""
    sink, context = make_sink()
    delivering = asyncio.ensure_future(sink.deliver(SAMPLES))
    await context.writing.wait()
    delivering.cancel()
    await asyncio.sleep(0)
    context.taken.set()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert context.cancelled_writes == 0 and len(context.written) == 1


async def test_a_caller_that_reads_nothing_gets_an_error_and_does_not_block_the_work(
    make_sink: MakeSink, clock: Clock
) -> None:
    sink, context = make_sink(write_timeout_s=30.0)
    delivering = asyncio.ensure_future(sink.deliver(SAMPLES))
    await context.writing.wait()
    clock.put_forward(30.0)
    await settle()
    clock.put_forward(1.0)  # which the first message gets, too
    with pytest.raises(StatusError, match="has taken nothing for 30 s") as raised:
        await delivering
    assert raised.value.reason == "CLIENT_TOO_SLOW"
    await asyncio.sleep(0)
    assert context.cancelled_writes == 1


async def test_the_first_write_is_completed_also_with_a_tiny_time_limit(make_sink: MakeSink, clock: Clock) -> None:
    """After a first write that was cancelled grpc.aio loses the status, and the caller waits until its deadline."""
    sink, context = make_sink(write_timeout_s=1e-6)
    delivering = asyncio.ensure_future(sink.deliver(SAMPLES))
    await context.writing.wait()
    clock.put_forward(0.5)
    await settle()
    assert context.cancelled_writes == 0
    context.taken.set()
    context.writing.clear()
    await context.writing.wait()
    context.taken.clear()
    await settle()
    assert len(context.written) == 2
    delivering = asyncio.ensure_future(sink.deliver(SAMPLES))
    await settle()
    clock.put_forward(1.0)
    with pytest.raises(StatusError, match="has taken nothing for 1e-06 s"):
        await delivering


async def test_a_caller_that_has_read_by_the_time_limit_is_not_too_slow(make_sink: MakeSink, clock: Clock) -> None:
    """As after a pause of the whole process, which then sees both at once."""
    sink, context = make_sink(write_timeout_s=30.0)
    delivering = asyncio.ensure_future(sink.deliver(SAMPLES))
    await context.writing.wait()
    clock.put_forward(60.0)
    context.taken.set()
    await delivering
    assert len(context.written) == 2 and context.cancelled_writes == 0


async def take_slowly(context: SlowContext, clock: Clock, pause_s: float) -> None:
    """A caller that reads each message after a pause."""
    while True:
        await context.writing.wait()
        context.writing.clear()
        clock.put_forward(pause_s)
        context.taken.set()
        await asyncio.sleep(0)
        context.taken.clear()


@pytest.mark.parametrize("had_samples", [0, 240_000_000])
async def test_waits_of_many_writes_add_up_towards_the_minimum_pace(
    make_sink: MakeSink, clock: Clock, had_samples: int
) -> None:
    """Each write is taken in time, and yet the caller takes a hundredth of what it must. What it had from a lost call
    it has not taken here.
    """
    place = Place(had_samples, had_samples) if had_samples else None
    sink, context = make_sink(write_timeout_s=30.0, least_pace=1.0, place=place)
    taking = asyncio.create_task(take_slowly(context, clock, 10.0))
    with pytest.raises(StatusError, match="at least 1 s in a second are needed") as raised:
        for _ in range(100):
            await sink.deliver(SAMPLES[:48])  # a millisecond
    taking.cancel()
    assert raised.value.reason == "CLIENT_TOO_SLOW"
    assert context.written  # so no single write was too long


async def test_a_caller_at_the_minimum_pace_is_not_ended(make_sink: MakeSink, clock: Clock) -> None:
    sink, context = make_sink(write_timeout_s=30.0, least_pace=0.004)
    taking = asyncio.create_task(take_slowly(context, clock, 10.0))
    for _ in range(20):
        await sink.deliver(SAMPLES)  # 20 s at the least pace
    taking.cancel()
    assert len(context.written) == 21
