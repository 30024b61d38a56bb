"""What is written of a text, call by call: nothing twice, nothing lost, nothing kept without need."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2
from csm_client.errors import ErrorDetails, ServerError
from csm_client.resuming.reader import SpeechReader
from csm_client.resuming.resumes import Resumes
from csm_client.text_writer import MOST_KEPT_BYTES, PIECE_COST_BYTES, TextWriter

CONFIG = tts_pb2.StreamSynthesizeRequest(request_id="r")
FLUSH = tts_pb2.TextPiece(text="!", flush=True)


def writer_of(pieces: Any, *, keep: bool = True) -> TextWriter:
    return TextWriter(pieces, tts_pb2.StreamSynthesizeRequest(request_id="r"), keep=keep)


def text_of(message: tts_pb2.StreamSynthesizeTextRequest) -> str:
    return message.text.text


async def typed(*pieces: str | tts_pb2.TextPiece) -> AsyncIterator[str | tts_pb2.TextPiece]:
    for piece in pieces:
        yield piece


async def test_every_call_writes_the_same_messages() -> None:
    writer = writer_of(typed("One", " and", FLUSH, "x" * 1500))
    first = [message async for message in writer.messages_async()]
    assert [message async for message in writer.messages_async()] == first
    assert first[0].config == CONFIG
    assert [text_of(message) for message in first[1:]] == ["One", " and", "!", "x" * 1000, "x" * 500]
    assert [message.text.flush for message in first[1:]] == [False, False, True, False, False]


async def test_a_piece_that_a_lost_call_waits_for_goes_to_the_next_call() -> None:
    written = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "a"
        await written.wait()
        yield "b"

    writer = writer_of(pieces())
    lost = writer.messages_async()
    assert [text_of(await anext(lost)) for _ in range(2)] == ["", "a"]
    waiting = asyncio.ensure_future(anext(lost))
    await asyncio.sleep(0)
    waiting.cancel()  # as gRPC does at the end of a call
    rest = asyncio.create_task(rest_of(writer.messages_async()))
    await asyncio.sleep(0)
    written.set()
    assert [text_of(message) for message in await rest] == ["", "a", "b"]


async def rest_of(messages: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in messages]


def test_a_thread_of_a_lost_call_gives_its_piece_to_the_next_call() -> None:
    asked, written = threading.Event(), threading.Event()

    def pieces() -> Iterator[str]:
        yield "a"
        asked.set()
        assert written.wait(30)
        yield "b"

    writer = writer_of(pieces())
    lost = writer.messages()
    found: list[tts_pb2.StreamSynthesizeTextRequest] = []
    thread = threading.Thread(target=lambda: found.extend(lost))
    thread.start()
    assert asked.wait(30)
    second = writer.messages()
    written.set()
    assert [text_of(message) for message in second] == ["", "a", "b"]
    thread.join(30)
    assert [text_of(message) for message in found] == ["", "a"]
    assert writer.error is None


def resumed(writer: TextWriter) -> bool:
    """The writer's call is lost after its first audio. Whether there will be another one."""
    reader = SpeechReader()
    reader.accept(tts_pb2.StreamSynthesizeTextResponse(header=tts_pb2.SynthesisHeader(seed=5)))
    loss = ServerError(grpc.StatusCode.UNAVAILABLE, "lost", ErrorDetails())
    return Resumes(tts_pb2.StreamSynthesizeRequest(), 1, 60.0, writer).after(loss, reader) is not None


LONG = "b" * MOST_KEPT_BYTES


def test_a_text_that_exceeds_the_limit_before_its_next_call_is_written_whole() -> None:
    """A thread of the lost call takes a piece meanwhile."""
    writer = writer_of(["a", LONG])
    lost = writer.messages()
    assert [text_of(next(lost)) for _ in range(2)] == ["", "a"]
    assert resumed(writer)
    assert next(lost, None) is None
    assert "".join(map(text_of, writer.messages())) == "a" + LONG
    assert not resumed(writer)


async def test_a_text_over_the_limit_is_written_whole_on_an_event_loop_too() -> None:
    writer = writer_of(typed("a", LONG))
    lost = writer.messages_async()
    assert [text_of(await anext(lost)) for _ in range(2)] == ["", "a"]
    waiting = asyncio.ensure_future(anext(lost, None))
    await asyncio.sleep(0)
    assert resumed(writer)
    assert await waiting is None
    assert "".join(map(text_of, await rest_of(writer.messages_async()))) == "a" + LONG


def test_a_text_is_kept_up_to_a_limit_and_only_if_it_may_be_sent_again() -> None:
    num_kept = MOST_KEPT_BYTES // (PIECE_COST_BYTES + 100)
    writer = writer_of(["x" * 100] * num_kept)
    assert sum(1 for _ in writer.messages()) == num_kept + 1
    assert not writer.is_kept  # what a message has beside its text counts too
    assert writer_of(["x" * 100] * (num_kept // 2)).is_kept
    empty = writer_of([tts_pb2.TextPiece(flush=True)] * (MOST_KEPT_BYTES // PIECE_COST_BYTES))
    assert sum(1 for _ in empty.messages()) and not empty.is_kept
    once = writer_of(["a", "b", "c"], keep=False)
    assert [text_of(message) for message in once.messages()] == ["", "a", "b", "c"]


async def test_pieces_are_not_taken_ahead_of_the_call_and_end_with_it() -> None:
    taken: list[str] = []

    async def pieces() -> AsyncIterator[str]:
        try:
            for piece in ("a", "b"):
                taken.append(piece)
                yield piece
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            taken.append("cancelled")
            raise

    writer = writer_of(pieces())
    messages = writer.messages_async()
    await anext(messages)
    assert taken == []
    assert text_of(await anext(messages)) == "a" and taken == ["a"]
    await anext(messages)
    waiting = asyncio.ensure_future(anext(messages, None))
    for _ in range(3):
        await asyncio.sleep(0)
    writer.close()
    assert await waiting is None and taken == ["a", "b", "cancelled"] and writer.error is None


class Broken:
    """Pieces that fail whenever one is taken, as a generator does only once."""

    def __iter__(self) -> Broken:
        return self

    def __next__(self) -> str:
        raise LookupError("gone")


class BrokenLater(Broken):
    def __aiter__(self) -> BrokenLater:
        return self

    async def __anext__(self) -> str:
        return next(self)


@pytest.mark.parametrize("kind", [Broken, BrokenLater])
async def test_an_exception_of_the_pieces_is_raised_in_every_call(kind: type[Broken]) -> None:
    writer = writer_of(kind())
    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            await rest_of(writer.messages_async())
    assert isinstance(writer.error, LookupError)


async def test_a_text_whose_pieces_are_cancelled_is_not_whole() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    writer = writer_of(pieces())
    with pytest.raises(ServerError) as failed:
        await rest_of(writer.messages_async())
    assert failed.value.code is grpc.StatusCode.CANCELLED
