"""Buffer, window and chunks between engine, codec and client."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.synthesis.decoding import Chunker, DecodeWindow, FrameBuffer
from tests.support.fake_stages import FRAME_SAMPLES, fake_frames


async def test_buffer_keeps_order_and_never_blocks_the_engine() -> None:
    buffer = FrameBuffer()
    for index in range(1000):
        buffer.put(fake_frames(index, 1))
    buffer.close()
    assert [frames.first_frame_index async for frames in buffer.from_frame(0)] == list(range(1000))


async def test_buffer_is_read_from_any_frame() -> None:
    """Even when the bytes to drop end inside a message, or come in later ones."""
    buffer = FrameBuffer()
    for index in range(0, 20, 4):
        buffer.put(fake_frames(index, 4))
    reading = asyncio.create_task(_codes_from(buffer, 6))
    await asyncio.sleep(0)
    buffer.put(fake_frames(20, 4))
    buffer.close()
    assert await reading == fake_frames(6, 18).codes
    assert await _codes_from(buffer, 24) == b""


async def _codes_from(buffer: FrameBuffer, first_frame: int) -> bytes:
    codes = b""
    async for frames in buffer.from_frame(first_frame):
        assert frames.first_frame_index == first_frame + len(codes) // len(fake_frames(0, 1).codes)
        codes += frames.codes
    return codes


async def test_window_of_a_continued_call_counts_from_its_first_sample() -> None:
    window = DecodeWindow(10, 0, FRAME_SAMPLES)
    window.begin(80, 100 * FRAME_SAMPLES)
    await window.admit(30)  # twenty of them are decoded again
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await window.admit(1)


async def test_window_holds_back_until_the_client_has_taken() -> None:
    window = DecodeWindow(10, 0, FRAME_SAMPLES)
    await window.admit(10)
    waiting = asyncio.create_task(window.admit(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    window.taken(FRAME_SAMPLES)
    await waiting


async def test_the_window_counts_samples_held_back_by_the_codec() -> None:
    window = DecodeWindow(10, 5 * FRAME_SAMPLES - 1, FRAME_SAMPLES)
    await window.admit(15)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await window.admit(1)


async def test_message_larger_than_the_window_passes_alone() -> None:
    window = DecodeWindow(10, 5 * FRAME_SAMPLES, FRAME_SAMPLES)
    await window.admit(5)  # the codec may hold back all of it
    await window.admit(100)


@given(st.lists(st.binary(max_size=40).map(lambda b: b[: len(b) // 2 * 2]), max_size=20), st.integers(0, 9))
def test_chunks_join_to_the_samples(pieces: list[bytes], chunk_samples: int) -> None:
    chunker = Chunker(chunk_samples)
    chunks = [chunk for piece in pieces for chunk in chunker.push(piece)] + chunker.flush()
    assert b"".join(chunks) == b"".join(pieces)
    assert all(chunks)
    if chunk_samples:
        assert all(len(chunk) == 2 * chunk_samples for chunk in chunks[:-1])


async def test_reader_whose_call_ends_while_it_writes_does_not_wait_for_another_frame() -> None:
    buffer, is_over = FrameBuffer(), asyncio.Event()
    buffer.put(fake_frames(0, 1))
    frames = buffer.from_frame(0, is_over.is_set)
    assert (await anext(frames)).frame_count == 1
    is_over.set()
    buffer.wake()
    ending = asyncio.ensure_future(anext(frames, None))
    await asyncio.sleep(0)
    assert ending.done() and ending.result() is None


async def test_frames_sent_before_the_codec_had_started_count_as_ahead() -> None:
    window = DecodeWindow(10, 0, FRAME_SAMPLES)
    await window.admit(10)  # the codec has not sent `started` in time
    window.begin(0, 0)
    waiting = asyncio.create_task(window.admit(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    window.taken(FRAME_SAMPLES)
    await waiting
