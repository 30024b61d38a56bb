"""Wrong requests of StreamSynthesizeText: the error names each wrong message and field."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2

from services.common.rpc import status
from services.gateway.rpc.text_stream import read_config
from tests.support.fake_deployment import FakeDeployment, failure
from tests.support.text_streams import Message, messages_of

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("messages", "field", "reason"),
    [
        ([], "config", "INVALID_REQUEST"),
        ([Message(text=tts_pb2.TextPiece(text="Hi."))], "config", "INVALID_REQUEST"),
        ([Message(config=tts_pb2.StreamSynthesizeRequest())], "config.audio_config.audio_encoding", ""),
        (["config", "config"], "text", "INVALID_REQUEST"),
        (["config"], "text", "TEXT_EMPTY"),
        (["config", Message(text=tts_pb2.TextPiece(text=" ... \n"))], "text", "TEXT_EMPTY"),
        (["config", Message(text=tts_pb2.TextPiece(text="x" * 4097))], "text.text", "TEXT_TOO_LONG"),
    ],
)
async def test_wrong_messages_are_named(
    tts: Any, config: tts_pb2.StreamSynthesizeRequest, messages: Any, field: str, reason: str
) -> None:
    sent = [Message(config=config) if message == "config" else message for message in messages]
    error = await failure(tts.StreamSynthesizeText(sent))
    assert error.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in error.field_violations] == [field]
    assert not reason or error.reason == reason


async def test_every_wrong_field_of_the_configuration_is_named(
    tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    config.input.text = "words"
    config.sampling_params.temperature = 9
    config.context.turns.add(speaker=0, text="").audio.recording.audio_content = b"x"
    error = await failure(tts.StreamSynthesizeText(messages_of(config)))
    fields = [violation.field for violation in error.field_violations]
    assert fields[:2] == ["config.input.text", "config.sampling_params.temperature"]
    assert fields[2] == "config.context.turns[0].text"
    assert fields[3].startswith("config.context.turns[0].audio.recording")


async def test_the_engine_s_refusal_of_a_sentence_names_the_text(
    deployment: FakeDeployment, tts: Any, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.refusal = status.invalid_argument([status.FieldViolation("segments[0].text", "is odd.")])
    error = await failure(tts.StreamSynthesizeText(messages_of(config)))
    assert [violation.field for violation in error.field_violations] == ["text"]
    assert error.message == "text: is odd."


async def test_a_message_that_does_not_come_in_time_is_waited_for_no_longer() -> None:
    async def silent() -> AsyncIterator[Message]:
        try:
            await asyncio.Event().wait()
            yield Message()
        finally:
            ended.set()

    ended = asyncio.Event()
    with pytest.raises(status.StatusError) as failed:
        await read_config(silent(), 0.01)
    assert (failed.value.code, failed.value.reason) == (Code.DEADLINE_EXCEEDED, "TEXT_STALLED")
    await asyncio.wait_for(ended.wait(), 20)
