"""Requests of very many short values, over gRPC: they are refused before they cost memory and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2

from services.common.rpc import status
from services.common.rpc.messages import MOST_VALUES
from tests.support.fake_deployment import fake_deployment
from tests.support.text_streams import Message

MANY = MOST_VALUES + 1
WORDS = [""] * MANY
TURNS = tts_pb2.SynthesisContext(turns=[tts_pb2.Turn()] * MANY)
KEYS = watermark_pb2.StreamDetectWatermarkConfig(key_ids=WORDS)
TTS, VOICES, WATERMARK = "csm.v1.TextToSpeechService", "csm.v1.VoiceService", "csm.v1.WatermarkService"


@pytest.mark.parametrize(
    ("method", "requests"),
    [
        (f"{TTS}/Synthesize", [tts_pb2.SynthesizeRequest(context=TURNS)]),
        (f"{TTS}/StreamSynthesize", [tts_pb2.StreamSynthesizeRequest(context=TURNS)]),
        (f"{TTS}/StreamSynthesizeText", [Message(config=tts_pb2.StreamSynthesizeRequest(context=TURNS))]),
        (f"{VOICES}/CreateVoice", [voices_pb2.CreateVoiceRequest(callers=WORDS)]),
        (f"{WATERMARK}/DetectWatermark", [watermark_pb2.DetectWatermarkRequest(key_ids=WORDS)]),
        (
            f"{WATERMARK}/StreamDetectWatermark",
            [watermark_pb2.StreamDetectWatermarkRequest(config=KEYS)],
        ),
    ],
)
async def test_no_method_takes_a_message_of_too_many_values(tmp_path: Path, method: str, requests: list[Any]) -> None:
    keeps_voices = fake_deployment(voices_database=str(tmp_path / "voices.sqlite"))
    async with keeps_voices as deployment, grpc.aio.insecure_channel(deployment.target) as channel:
        call = channel.stream_stream(f"/{method}", lambda message: message.SerializeToString(), None)(iter(requests))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        error = status.from_rpc_error(refused.value)
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_VALUES")


async def test_a_text_stream_refuses_a_message_of_too_many_values(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    stream_request.input.text = ""
    later = Message(config=tts_pb2.StreamSynthesizeRequest(context=TURNS))
    async with fake_deployment() as deployment, grpc.aio.insecure_channel(deployment.target) as channel:
        method = channel.stream_stream(
            f"/{TTS}/StreamSynthesizeText", lambda message: message.SerializeToString(), None
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(iter([Message(config=stream_request), later])).read()
        assert status.from_rpc_error(refused.value).reason == "TOO_MANY_VALUES"
