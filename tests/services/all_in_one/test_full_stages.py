"""The all-in-one server when its only engine is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import EngineBusyError
from services.all_in_one.stage import start_all_in_one
from services.engine.async_engine import AsyncEngine, SequenceStream
from tests.services.all_in_one.conftest import small_settings
from tests.support.fake_deployment import failure


async def test_a_call_that_the_only_engine_refuses_reaches_it_once(
    bundle: Path, keyring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is a plain one, for the project's clients retry."""
    asked: list[Any] = []

    async def refuse(self: AsyncEngine, *request: Any) -> SequenceStream:
        asked.append(request)
        raise EngineBusyError("The queue is full.")

    stage = await start_all_in_one(small_settings(bundle, keyring), lambda line: None)
    monkeypatch.setattr(AsyncEngine, "open", refuse)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
            stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            request = tts_pb2.StreamSynthesizeRequest(
                input=tts_pb2.SynthesisInput(text="Hello."),
                audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
            )
            error = await failure(stub.StreamSynthesize(request, timeout=100))
        assert (error.reason, len(asked)) == ("QUEUE_FULL", 1)
    finally:
        await stage.stop()
