"""Calls that are left, closed or given nothing to send: what their callers get, and that no server goes on."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import csm_client
import grpc
import pytest
from csm.v1 import tts_pb2
from csm_client import AsyncClient, AsyncSpeechStream
from csm_client.client import SpeechStream
from csm_client.resuming import resumes as resuming
from csm_client.resuming.connection import next_message
from csm_client.resuming.resumes import Resumes

from tests.clients.python.conftest import BackgroundServer
from tests.support.fake_deployment import FakeDeployment

LOST = grpc.StatusCode.UNAVAILABLE


class Call:
    """A call of a stream: its messages, then its end."""

    def __init__(self, code: grpc.StatusCode | None, samples: int) -> None:
        self._code, self._samples, self.is_cancelled = code, samples, False

    def __iter__(self) -> Iterator[tts_pb2.StreamSynthesizeResponse]:
        if self.is_cancelled:
            raise failure(grpc.StatusCode.CANCELLED)
        message, chunk = tts_pb2.StreamSynthesizeResponse, tts_pb2.AudioChunk
        yield message(header=tts_pb2.SynthesisHeader(seed=5))
        yield message(audio_chunk=chunk(audio_content=bytes(2 * self._samples), sample_count=self._samples))
        if self._code is not None:
            raise failure(self._code)
        yield message(summary=tts_pb2.SynthesisSummary(stats=tts_pb2.SynthesisStats(sample_count=self._samples)))

    def cancel(self) -> None:
        self.is_cancelled = True


class AsyncCall(Call):
    """The same on an event loop."""

    def __init__(self, code: grpc.StatusCode | None, samples: int) -> None:
        super().__init__(code, samples)
        self._messages = iter(self)

    async def read(self) -> Any:
        return next(self._messages, grpc.aio.EOF)  # type: ignore[attr-defined]  # the stubs forget it


class NoConnection:
    """In the place of a client's, where no server is searched for."""

    channel: Any = None


NO_CONNECTION: Any = NoConnection()


def after_loss(lost: Call, call_again: Callable[[float], Any]) -> Callable[[float], Any]:
    """Opens the call `lost` first, then those of `call_again`."""
    calls = iter([lambda timeout_s: lost])
    return lambda timeout_s: next(calls, call_again)(timeout_s)


def failure(code: grpc.StatusCode) -> grpc.RpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), code.name, None)


def test_a_stream_closed_while_another_server_is_called_does_not_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread: the reading one has just looked."""
    monkeypatch.setattr(resuming, "FIRST_DELAY_S", 0.0)
    again = Call(None, 4)

    def call_again(timeout_s: float) -> Any:
        stream.cancel()
        return again

    resumes = Resumes(tts_pb2.StreamSynthesizeRequest(), 3, 60.0)
    stream = SpeechStream(NO_CONNECTION, after_loss(Call(LOST, 2), call_again), resumes)
    with pytest.raises(csm_client.IncompleteAudioError) as failed:
        stream.read_all()
    assert failed.value.received_sample_count == 2 and again.is_cancelled


def test_a_stream_closed_before_another_server_is_called_calls_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "FIRST_DELAY_S", 2.0)
    resumes, called = Resumes(tts_pb2.StreamSynthesizeRequest(), 3, 60.0), list[float]()
    stream = SpeechStream(NO_CONNECTION, after_loss(Call(LOST, 2), called.append), resumes)
    leaving = threading.Timer(0.1, stream.cancel)
    leaving.start()
    with pytest.raises(csm_client.IncompleteAudioError):
        stream.read_all()
    leaving.join()
    assert called == []


async def test_an_asynchronous_stream_closed_before_another_server_is_called_calls_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resuming, "FIRST_DELAY_S", 0.2)
    resumes, called = Resumes(tts_pb2.StreamSynthesizeRequest(), 3, 60.0), list[float]()
    stream = AsyncSpeechStream(NO_CONNECTION, after_loss(AsyncCall(LOST, 2), called.append), resumes)
    asyncio.get_running_loop().call_later(0.05, stream.cancel)
    with pytest.raises(csm_client.IncompleteAudioError, match="cancelled"):
        await stream.read_all()
    assert called == []


async def test_a_call_that_was_lost_is_cancelled_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was lost to a write may still run."""
    monkeypatch.setattr(resuming, "FIRST_DELAY_S", 0.0)
    lost, resumes = AsyncCall(LOST, 2), Resumes(tts_pb2.StreamSynthesizeRequest(), 3, 60.0)
    was_cancelled = []

    def call_again(timeout_s: float) -> AsyncCall:
        was_cancelled.append(lost.is_cancelled)
        return AsyncCall(None, 2)

    speech = await AsyncSpeechStream(NO_CONNECTION, after_loss(lost, call_again), resumes).read_all()
    assert len(speech.samples) == 4 and was_cancelled == [True]


async def test_closing_the_client_is_an_error_for_a_call_and_does_not_cancel_its_task(
    deployment: FakeDeployment, client: AsyncClient
) -> None:
    deployment.engine.script.pause_at = 0
    calling = asyncio.create_task(client.synthesize("Hello."))
    await deployment.engine.script.paused.wait()
    await client.close()
    with pytest.raises(csm_client.ServerError, match="cancelled"):
        await calling


async def test_a_call_whose_task_is_cancelled_is_cancelled(deployment: FakeDeployment, client: AsyncClient) -> None:
    deployment.engine.script.pause_at = 0
    calling = asyncio.create_task(client.synthesize("Hello."))
    await deployment.engine.script.paused.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


class BrokenFile(io.BytesIO):
    """Cannot be read to its end."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError("the disk is gone")
        return super().read(size)


def broken_file() -> BrokenFile:
    return BrokenFile(bytes(2**20))


async def test_an_unreadable_recording_raises_the_reader_s_exception(client: AsyncClient) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        await client.find_watermarks(broken_file())


def test_an_unreadable_recording_raises_the_reader_s_exception_in_the_blocking_client(server: BackgroundServer) -> None:
    with csm_client.Client(server.target) as client, pytest.raises(OSError, match="the disk is gone"):
        client.find_watermarks(broken_file())


async def test_a_reader_that_is_cancelled_cancels_no_read() -> None:
    """grpc.aio would never free the message that comes at that moment."""
    arrived = asyncio.get_running_loop().create_future()

    async def read() -> Any:
        return await arrived

    reading = asyncio.create_task(next_message(SimpleNamespace(read=read)))
    for _ in range(3):
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not arrived.cancelled()
    arrived.set_result("a message that nobody reads")
