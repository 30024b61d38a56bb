"""Streams and their slots: which streams wait, which are refused and how, and that every end frees the slot."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from csm.codec.v1 import codec_pb2

from csm_bundle.errors import CodecBusyError
from services.codec.admission import Admission
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.rpc.load_report import FAULTY
from tests.support.codec_stage import (
    config_message,
    decode,
    frames_message,
    random_codes,
    refusal,
    running_codec,
    stream_of,
)
from tests.support.waits import eventually, read_event, settle


async def test_a_full_stage_lets_streams_wait_then_refuses_and_a_cancel_lets_the_next_in(
    stub: Any, stage: CodecStage
) -> None:
    calls = [stub.StreamDecode(), stub.StreamDecode()]
    for call in calls:
        await call.write(config_message())
    await eventually(lambda: stage.async_codec.num_streams == 2)
    waiting = asyncio.ensure_future(decode(stub, stream_of(random_codes(1), [1])))
    await eventually(lambda: stage.async_codec.admission.num_waiting == 1)
    status = await refusal(decode(stub, stream_of(random_codes(1), [1])))
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
    assert status.retry_delay_s is not None
    calls[0].cancel()
    samples, _ = await asyncio.wait_for(waiting, 60)  # it got the slot
    assert samples
    calls[1].cancel()
    await eventually(lambda: stage.async_codec.num_streams == 0)
    await decode(stub, stream_of(random_codes(1), [1]))


async def test_more_streams_than_slots_are_all_served_in_turn(stub: Any, stage: CodecStage) -> None:
    alone, _ = await decode(stub, stream_of(random_codes(3), [3]))
    streams = [asyncio.ensure_future(decode(stub, stream_of(random_codes(3), [3]))) for _ in range(3)]
    for samples, _ in await asyncio.gather(*streams):
        assert samples == alone


async def test_a_cancelled_wait_leaves_the_queue(stub: Any, stage: CodecStage) -> None:
    calls = [stub.StreamDecode() for _ in range(3)]
    for call in calls:
        await call.write(config_message())
    await eventually(lambda: stage.async_codec.admission.num_waiting == 1)
    for call in calls:
        call.cancel()
    await eventually(lambda: (stage.async_codec.admission.num_waiting, stage.async_codec.num_streams) == (0, 0))
    assert len(await asyncio.gather(*(decode(stub, stream_of(random_codes(1), [1])) for _ in range(3)))) == 3


async def test_deadline_frees_the_slot(stub: Any, stage: CodecStage) -> None:
    async def open_ended() -> AsyncIterator[codec_pb2.StreamDecodeRequest]:
        yield config_message()
        await asyncio.sleep(60)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.StreamDecode(open_ended(), timeout=0.3):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: stage.async_codec.num_streams == 0)


async def test_a_stopping_stage_ends_its_streams_with_a_status(stub: Any, stage: CodecStage) -> None:
    call = stub.StreamDecode()
    await call.write(config_message())
    assert (await read_event(call)).HasField("started")
    reading = asyncio.ensure_future(read_event(call))
    await stage.async_codec.stop()
    status = await refusal(reading)
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_stream_is_admitted_to_free_slots_while_others_are_still_waking_up() -> None:
    """A freed slot is handed to a waiting call at once, even before the event loop runs that call."""
    admission = Admission(2, max_waiting=1)
    await admission.take()
    await admission.take()
    waiting = asyncio.ensure_future(admission.take())
    await asyncio.sleep(0)
    assert admission.num_waiting == 1
    admission.leave()
    admission.leave()
    async with asyncio.timeout(20):
        await admission.take()
        await waiting
    with pytest.raises(CodecBusyError, match="All 2 decode slots are taken and 1 calls wait"):
        await asyncio.gather(admission.take(), admission.take())


async def test_streams_with_a_listener_go_first_in_order_of_arrival() -> None:
    admission, came = Admission(1, max_waiting=2), list[str]()

    async def stream(name: str) -> None:
        await admission.take(has_listener=name.startswith("heard"))
        came.append(name)
        admission.leave()

    await admission.take()
    names = ["new 1", "new 2", "heard 1", "heard 2", "heard 3"]
    streams = []
    for name in names:
        streams.append(asyncio.ensure_future(stream(name)))
        await asyncio.sleep(0)
    assert (admission.num_calls, admission.num_waiting) == (6, 5), "those without one take no place of theirs"
    for has_listener, counts in ((True, "3 calls wait; at most 3"), (False, "5 calls wait; at most 2")):
        with pytest.raises(CodecBusyError, match=f"All 1 decode slots are taken and {counts}"):
            await admission.take(has_listener=has_listener)
    admission.leave()
    await asyncio.gather(*streams)
    assert came == ["heard 1", "heard 2", "heard 3", "new 1", "new 2"]
    assert admission.num_calls == 0


async def test_a_stream_with_a_listener_is_decoded_before_one_that_came_earlier(stub: Any, stage: CodecStage) -> None:
    calls = [stub.StreamDecode() for _ in range(2)]
    for call in calls:
        await call.write(config_message())
    await eventually(lambda: stage.async_codec.num_streams == 2)
    order: list[str] = []

    async def say(name: str, **config: Any) -> None:
        await decode(stub, stream_of(random_codes(1), [1], **config))
        order.append(name)

    new = asyncio.ensure_future(say("new"))
    await eventually(lambda: stage.async_codec.admission.num_waiting == 1)
    heard = asyncio.ensure_future(say("heard", has_listener=True))
    await eventually(lambda: stage.async_codec.admission.num_waiting == 2)
    calls[0].cancel()
    await asyncio.wait_for(asyncio.gather(new, heard), 60)
    assert order == ["heard", "new"]
    calls[1].cancel()


@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_a_wait_cancelled_when_its_slot_comes_passes_the_slot_on(cancelled_first: bool) -> None:
    admission = Admission(1, max_waiting=2)
    await admission.take()
    first, second = (asyncio.ensure_future(admission.take()) for _ in range(2))
    await asyncio.sleep(0)
    if cancelled_first:
        first.cancel()
        admission.leave()
    else:
        admission.leave()
        first.cancel()
    async with asyncio.timeout(20):
        await second
    assert first.cancelled() and admission.num_waiting == 0
    admission.leave()
    await admission.take()


@pytest.mark.parametrize("has_listener", [False, True])
async def test_a_wait_that_is_cancelled_gives_its_place_to_the_next_caller_at_once(has_listener: bool) -> None:
    admission = Admission(1, max_waiting=1)
    await admission.take()
    for _ in range(5):
        waiting = asyncio.ensure_future(admission.take(has_listener=has_listener))
        await asyncio.sleep(0)
        assert admission.num_calls == 2
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled() and admission.num_waiting == 0


@pytest.mark.parametrize("seed", range(30))
async def test_the_queue_is_two_lists_of_which_one_goes_first(seed: int) -> None:
    """Random takes, cancels and ends: no slot or place in the queue is lost or given twice."""
    rng = random.Random(seed)
    num_slots, max_waiting = rng.randint(1, 3), rng.randint(0, 4)
    admission, began = Admission(num_slots, max_waiting), list[int]()
    waiting: dict[bool, list[int]] = {True: [], False: []}  # calls, by whether they have a listener
    expected: list[int] = []  # all calls that have begun, in order
    running: list[int] = []
    calls: dict[int, asyncio.Task[None]] = {}

    async def take(number: int, has_listener: bool) -> None:
        await admission.take(has_listener=has_listener)
        began.append(number)

    def begin(number: int) -> None:
        running.append(number)
        expected.append(number)

    for number in range(200):
        match rng.choice(("take", "take", "leave", "cancel", "leave and cancel")):
            case "take":
                has_listener = rng.random() < 0.5
                others = len(waiting[True]) + (0 if has_listener else len(waiting[False]))
                fits = others < max_waiting + (num_slots if has_listener else 0)
                call = calls[number] = asyncio.create_task(take(number, has_listener))
                await settle()
                if len(running) < num_slots:
                    begin(number)
                elif fits:
                    waiting[has_listener].append(number)
                else:
                    assert isinstance(call.exception(), CodecBusyError)
            case "leave" if running:
                running.remove(rng.choice(running))
                admission.leave()
                if queue := waiting[True] or waiting[False]:
                    begin(queue.pop(0))
            case "cancel" if waiting[True] or waiting[False]:
                queue = rng.choice([queue for queue in waiting.values() if queue])
                calls[queue.pop(rng.randrange(len(queue)))].cancel()
            case "leave and cancel" if running and (queue := waiting[True] or waiting[False]):
                running.remove(rng.choice(running))
                both: list[Callable[[], object]] = [
                    admission.leave,
                    calls[queue.pop(0)].cancel,
                ]  # it has been given a slot, but has not run yet
                for happens in rng.sample(both, 2):
                    happens()
                if queue := waiting[True] or waiting[False]:
                    begin(queue.pop(0))
        await settle()
        assert began == expected
        assert admission.num_waiting == len(waiting[True]) + len(waiting[False])
        assert admission.num_calls == len(running) + admission.num_waiting
    for call in calls.values():
        call.cancel()
    await asyncio.gather(*calls.values(), return_exceptions=True)


AWAITS = config_message(awaits_started=True)


@pytest.fixture
def waits_at_end(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call that has ended, whether the stage knew that its caller writes no more."""
    told: list[bool] = []
    discard = IncomingMessages.discard

    async def recorded(self: IncomingMessages) -> None:
        told.append(self.caller_waits)
        await discard(self)

    monkeypatch.setattr(IncomingMessages, "discard", recorded)
    return told


async def test_a_stream_ends_with_the_load_of_the_codec(stub: Any, loads: list[tuple[int, int]]) -> None:
    await decode(stub, stream_of(random_codes(2), [2]))
    assert loads == [(1, 2)]


async def test_a_stream_that_the_codec_fails_leads_others_elsewhere(
    settings: CodecSettings, loads: list[tuple[int, int]]
) -> None:
    async with running_codec(settings) as (stage, stub):
        decoder: Any = stage.async_codec.threads[0]._codec._decoder
        frame_step = decoder.frame_step
        decoder.frame_step = lambda *arguments: frame_step(*arguments) * math.nan
        status = await refusal(decode(stub, stream_of(random_codes(2), [2])))
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "CODEC_FAULT")
    assert loads == [(FAULTY - 1, 1)]


@pytest.mark.parametrize("awaits", [True, False])
async def test_a_refused_stream_reports_the_load_and_waits_for_no_frames_if_none_will_come(
    settings: CodecSettings, loads: list[tuple[int, int]], waits_at_end: list[bool], awaits: bool
) -> None:
    async with running_codec(settings, slots=1, max_waiting_streams=0) as (_, stub):
        first = stub.StreamDecode()
        await first.write(AWAITS)
        assert (await read_event(first)).HasField("started")
        second = stub.StreamDecode()
        await second.write(config_message(awaits_started=awaits))
        status = await refusal(read_event(second))
        first.cancel()
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
    assert loads == [(1, 1)]
    assert waits_at_end == [awaits]


async def test_a_failure_after_the_start_lingers_for_frames_in_flight(stub: Any, waits_at_end: list[bool]) -> None:
    call = stub.StreamDecode()
    await call.write(AWAITS)
    assert (await read_event(call)).HasField("started")
    await call.write(frames_message(np.full((1, 4), 64)))
    assert (await refusal(read_event(call))).code is grpc.StatusCode.INVALID_ARGUMENT
    assert waits_at_end == [False]
