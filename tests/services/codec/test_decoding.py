"""Codes to audio: the same samples however the stream is cut, as early as possible, in any format."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from csm_codec.resample import resample
from services.codec import async_codec
from services.codec.async_codec import MAX_AHEAD_FRAMES
from services.codec.convert import from_pcm
from services.codec.settings import CodecSettings
from tests.support.codec_stage import (
    FRAMES,
    S16,
    config_message,
    decode,
    frames_message,
    random_codes,
    running_codec,
    stream_of,
)
from tests.support.waits import eventually, read_event


async def test_chunking_and_concurrent_streams_do_not_change_the_audio(stub: Any) -> None:
    alone, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    beside = await asyncio.gather(
        decode(stub, stream_of(random_codes(), [3])), decode(stub, stream_of(random_codes(seed=1), [7, 1, 2]))
    )
    assert beside[0][0] == alone
    assert beside[1][0] != alone


async def test_first_audio_comes_with_the_first_frame_unless_look_ahead_delays_it(
    stub: Any, settings: CodecSettings
) -> None:
    call = stub.StreamDecode()
    await call.write(config_message())
    assert (await read_event(call)).HasField("started")
    await call.write(frames_message(random_codes(1), 0))
    first = await read_event(call)
    assert 1920 - first.audio.sample_count <= 2 * 256  # two hops
    call.cancel()

    async with running_codec(settings, watermark_first_look_ahead=6) as (_, patient):
        call = patient.StreamDecode()
        await call.write(config_message())
        assert (await read_event(call)).HasField("started")
        for index in range(2):
            await call.write(frames_message(random_codes(1), index))
        first = await read_event(call)
        assert 2 * 1920 - first.audio.sample_count > 6 * 256
        call.cancel()


async def test_first_audio_comes_before_the_last_frame_is_sent(stub: Any) -> None:
    call = stub.StreamDecode()
    await call.write(config_message())
    assert (await read_event(call)).HasField("started")
    for index in range(10):
        await call.write(frames_message(random_codes(1), index))
    first = await read_event(call)
    assert first.audio.sample_count > 0
    await call.done_writing()
    last = first
    while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        last = response
    assert last.complete.sample_count == 10 * 1920


async def test_more_frames_than_fit_ahead_all_come_out(stub: Any) -> None:
    count = MAX_AHEAD_FRAMES + 16
    _, complete = await decode(stub, stream_of(random_codes(count), [count]))
    assert complete.sample_count == count * 1920


async def test_16_bit_samples_are_the_float_ones_rounded(stub: Any) -> None:
    floats, _ = await decode(stub, stream_of(random_codes(), [8]))
    words, _ = await decode(stub, stream_of(random_codes(), [8], sample_format=S16))
    expected = np.rint(np.frombuffer(floats, "<f4") * 32768).clip(-32768, 32767)
    assert np.array_equal(np.frombuffer(words, "<i2"), expected)


def test_16_bit_samples_beyond_full_scale_are_clipped() -> None:
    loud = np.array([1.0, 1.5, -1.0, -1.5, 1e9, -1e9], np.float32)
    words = np.frombuffer(from_pcm(loud, S16), "<i2")
    assert words.tolist() == [32767, 32767, -32768, -32768, 32767, -32768]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
async def test_other_rates_are_resampled_without_a_seam(stub: Any, rate_hz: int) -> None:
    native, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    other, _ = await decode(stub, stream_of(random_codes(), [5], sample_rate_hertz=rate_hz))
    assert np.array_equal(np.frombuffer(other, "<f4"), resample(np.frombuffer(native, "<f4"), 24000, rate_hz))


async def test_a_stream_without_frames_completes_empty(stub: Any) -> None:
    samples, complete = await decode(stub, [config_message()])
    assert samples == b"" and complete.frame_count == 0


async def test_a_call_that_ends_while_its_frames_wait_for_room_leaves_no_task(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_codec, "MAX_AHEAD_FRAMES", 0)

    def readers() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if "_read_frames" in repr(task.get_coro())]

    call = stub.StreamDecode()
    for request in stream_of(random_codes(), [FRAMES]):
        await call.write(request)
    assert (await call.read()).WhichOneof("event") == "started"
    assert readers()
    call.cancel()
    await eventually(lambda: not readers())
