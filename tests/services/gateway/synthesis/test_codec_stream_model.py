"""Streams of codes to the codec at random paces, with losses and a full queue: they end, and no sample is wrong.

In virtual time: a stream that stands still is one that has not ended after a day.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import FULL, StageError, unreachable
from services.gateway.synthesis import deadline as deadline_module
from services.gateway.synthesis import listener as listener_module
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import CodecStream
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodePacing, FrameBuffer, SlotEvent
from services.gateway.synthesis.failover import FailoverLimits, Failovers
from tests.support.fake_stages import FRAME_SAMPLES, fake_frames, fake_identity, numbered_audio
from tests.support.virtual_time import run_in_virtual_time

DAY_S = 86_400.0
PATIENCE_S = 2.0
SEEDS = 60


class Pace:
    """Takes no time, some iterations of the event loop, or seconds."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def __call__(self, *seconds: float, often: float = 0.2) -> None:
        if self._rng.random() < often:
            await asyncio.sleep(self._rng.choice((0.001, 0.1, 1.0, *seconds)))
        for _ in range(self._rng.randrange(5)):
            await asyncio.sleep(0)


class Codec:
    """A codec with one slot. As in gRPC, a call's writes are a task that the call's end does not cancel."""

    def __init__(self, rng: random.Random, pace: Pace) -> None:
        self._rng, self._pace, self._slot = rng, pace, asyncio.Semaphore(1)
        self._loss, self._full = rng.choice((0.0, 0.05)), rng.choice((0.0, 0.3))
        self.writers: list[asyncio.Task[None]] = []
        latency = rng.choice((0, 1000, 5 * FRAME_SAMPLES))
        self.info = codec_pb2.GetCodecInfoResponse(
            codec=fake_identity(), active_key_id="k", sends_started=True, latency_sample_count=latency
        )

    async def codec_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> codec_pb2.GetCodecInfoResponse:
        await self._pace()
        return self.info

    async def decode(
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], timeout_s: float
    ) -> AsyncGenerator[codec_pb2.StreamDecodeResponse, None]:
        arrived = asyncio.Queue[codec_pb2.StreamDecodeRequest | None]()
        has_ended = asyncio.Event()

        async def write() -> None:
            async for request in requests:
                await self._pace()
                if has_ended.is_set():
                    return
                arrived.put_nowait(request)
            arrived.put_nowait(None)

        writer = asyncio.create_task(write())
        self.writers.append(writer)
        try:
            async for response in self._responses(arrived):
                yield response
        except (GeneratorExit, asyncio.CancelledError):
            writer.cancel()
            raise
        finally:
            has_ended.set()

    async def _responses(
        self, arrived: asyncio.Queue[codec_pb2.StreamDecodeRequest | None]
    ) -> AsyncGenerator[codec_pb2.StreamDecodeResponse, None]:
        first, response = await arrived.get(), codec_pb2.StreamDecodeResponse
        assert first is not None
        await self._pace(3.0, 7.0)
        if self._rng.random() < self._full:
            raise StageError("CODEC", grpc.StatusCode.UNAVAILABLE, FULL, "full")
        async with self._slot:
            started = codec_pb2.StreamDecodeStarted.FromString(first.config.checkpoint)
            await self._pace(3.0, 7.0)
            yield response(started=started)
            frames, sent = started.first_frame_index, started.sample_offset
            while (request := await arrived.get()) is not None:
                if self._rng.random() < self._loss:
                    raise unreachable("CODEC")
                await self._pace()
                assert request.frames.first_frame_index == frames
                frames += request.frames.frame_count
                made = FRAME_SAMPLES * frames - self.info.latency_sample_count
                if made > sent:
                    yield response(audio=_audio(sent, made, frames))
                    sent = made
            if (made := FRAME_SAMPLES * frames) > sent:
                yield response(audio=_audio(sent, made, None))
            complete = codec_pb2.StreamDecodeComplete(frame_count=frames, sample_count=made)
            yield response(complete=complete)


def _audio(first: int, last: int, frames: int | None) -> codec_pb2.AudioSamples:
    """Samples `first` to `last`, with a checkpoint after that many frames; without one when None."""
    whole = numbered_audio(range(first // FRAME_SAMPLES, -(-last // FRAME_SAMPLES)))
    start = 2 * (first % FRAME_SAMPLES)
    audio = codec_pb2.AudioSamples(
        samples=whole[start : start + 2 * (last - first)], sample_offset=first, sample_count=last - first
    )
    if frames is not None:
        begins = codec_pb2.StreamDecodeStarted(first_frame_index=max(0, frames - 8), sample_offset=last)
        audio.checkpoint.state = begins.SerializeToString()
        audio.checkpoint.first_frame_index, audio.checkpoint.sample_offset = begins.first_frame_index, last
    return audio


async def _stream(rng: random.Random) -> list[SlotEvent]:
    """Runs one stream. Returns what became of its slot."""
    loop, pace = asyncio.get_running_loop(), Pace(rng)
    codec, buffer, events = Codec(rng, pace), FrameBuffer(), list[SlotEvent]()
    limits = FailoverLimits(most=10_000, wait_s=DAY_S, full_wait_s=DAY_S)
    failovers = Failovers(limits, lambda *outcome: None, lambda outcome: None, loop.time, has_listener=True)
    catalog = Catalog(engine_pb2.GetModelInfoResponse(), codec.info)
    stream = CodecStream("r", catalog, codec, DecodePacing(5, PATIENCE_S, events.append), failovers, Clip())
    count, heard, slowness = rng.choice((0, 7, 30, 60)), bytearray(), rng.choice((0.0, 0.3))

    async def generate() -> None:
        for frame in range(count):
            buffer.put(fake_frames(frame, 1))
            await pace(often=0.1)
        buffer.close()

    async def take(samples: bytes) -> None:
        heard.extend(samples)
        await pace(PATIENCE_S, PATIENCE_S + 0.1, 6.0, often=slowness)

    generating = asyncio.create_task(generate())
    async with asyncio.timeout(DAY_S):
        await stream.run(buffer, Deadline(loop.time() + 2 * DAY_S), take)
        await generating
        await asyncio.wait(codec.writers)
    assert heard == numbered_audio(range(count))
    return events


def test_a_stream_ends_with_every_sample_in_any_order_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[SlotEvent] = []
    for seed in range(SEEDS):
        try:
            events += run_in_virtual_time(_stream(random.Random(seed)), monkeypatch, deadline_module, listener_module)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert events.count("given_back") == events.count("taken_again") > SEEDS / 10


def test_a_stream_that_gave_its_slot_back_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had a slot before. A new stream is refused by a full codec."""

    async def main() -> None:
        loop, rng = asyncio.get_running_loop(), random.Random(0)
        codec, buffer, heard = Codec(rng, Pace(rng)), FrameBuffer(), bytearray()
        codec._loss = codec._full = 0.0

        def report(event: SlotEvent) -> None:
            codec._full = 1.0 if event == "taken_again" else 0.0
            loop.call_later(5.0, setattr, codec, "_full", 0.0)

        async def take(samples: bytes) -> None:
            if not heard:
                await asyncio.sleep(2 * PATIENCE_S)
            heard.extend(samples)

        failovers = Failovers(FailoverLimits(1, 5.0, 30.0), lambda *loss: None, lambda outcome: None, loop.time)
        catalog = Catalog(engine_pb2.GetModelInfoResponse(), codec.info)
        stream = CodecStream("r", catalog, codec, DecodePacing(5, PATIENCE_S, report), failovers, Clip())
        for frame in range(60):
            buffer.put(fake_frames(frame, 1))
        buffer.close()
        await stream.run(buffer, Deadline(loop.time() + DAY_S), take)
        assert heard == numbered_audio(range(60)) and len(codec.writers) >= 3

    run_in_virtual_time(main(), monkeypatch, deadline_module, listener_module)
