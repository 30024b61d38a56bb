"""Announced sizes of requests, true and false, and requests without one, over gRPC."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc import status
from services.gateway.budgets import arrivals
from tests.services.gateway.budgets.test_recording_budget import asked, budget, gauge, refused, streamed
from tests.support.waits import eventually

WORDS = ("0", "-1", "1.5e9", "many", "999999999999", "9" * 40, "7")


async def test_a_request_is_limited_by_its_real_size_whatever_it_announces(tmp_path: Path) -> None:
    async with budget(tmp_path) as (running, codec, channel):
        codec.may_encode.set()
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        for word in WORDS:
            for with_recording in (False, True):
                request = asked(with_recording=with_recording)
                call = stub.StreamSynthesize(request, metadata=((arrivals.ANNOUNCED_KEY, word),), timeout=20)
                assert len([_ async for _ in call]) > 1, word
        assert gauge(running, "tts_large_requests") == 0


async def test_a_caller_that_announces_and_sends_nothing_loses_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "SLOW_AFTER_S", 0.1)
    announced = ((arrivals.ANNOUNCED_KEY, "1000000"),)
    async with budget(tmp_path, max_large_requests=1) as (running, codec, channel):
        codec.may_encode.set()
        method = "/csm.v1.TextToSpeechService/Synthesize"
        silent: Any = channel.stream_unary(method, bytes, bytes)(_nothing(), metadata=announced, timeout=20)
        await eventually(lambda: gauge(running, "tts_large_requests") == 1)
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert len([_ async for _ in stub.StreamSynthesize(asked(), metadata=announced, timeout=20)]) > 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await silent
        error = status.from_rpc_error(caught.value)
        assert error.reason == "RECORDINGS_BUSY" and "arrives too slowly" in error.message


async def test_a_large_request_of_a_small_method_needs_a_place_too(tmp_path: Path) -> None:
    async with budget(tmp_path, max_large_requests=1) as (running, codec, channel):
        first = asyncio.ensure_future(streamed(channel))
        await codec.encoding.wait()
        second = asyncio.ensure_future(streamed(channel))  # has the place, and waits for the budget
        await eventually(lambda: gauge(running, "tts_waiting_recordings") == 1)
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert (await stub.ListVoices(tts_pb2.ListVoicesRequest())).voices
        large = tts_pb2.ListVoicesRequest(language_code="x" * 2**20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListVoices(large)
        assert status.from_rpc_error(caught.value).reason == "RECORDINGS_BUSY"
        assert refused(running, "arriving") == 1
        codec.may_encode.set()
        assert await first and await second
        assert not (await stub.ListVoices(large)).voices


async def _nothing() -> Any:
    await asyncio.sleep(3600)
    yield b""
