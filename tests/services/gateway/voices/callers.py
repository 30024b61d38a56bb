"""Callers with tokens, and their requests."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc, voices_pb2, voices_pb2_grpc

from services.common.rpc import status
from services.common.rpc.status import StatusError
from services.gateway.auth.tokens import digest_of
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.wav import wav_of

NAMES = ("shop", "radio", "tv")


class Caller:
    """One caller of one gateway."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self.tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        self.voices: Any = voices_pb2_grpc.VoiceServiceStub(channel)
        self.metadata = (("authorization", f"Bearer token-of-{name}"),) if name else ()

    async def create(self, name: str = "ada", **changes: Any) -> voices_pb2.KeptVoice:
        answer = await self.voices.CreateVoice(create_request(name, **changes), metadata=self.metadata)
        voice: voices_pb2.KeptVoice = answer.voice
        return voice

    async def get(self, name: str = "ada") -> voices_pb2.KeptVoice:
        answer = await self.voices.GetVoice(voices_pb2.GetVoiceRequest(name=name), metadata=self.metadata)
        voice: voices_pb2.KeptVoice = answer.voice
        return voice

    async def delete(self, name: str = "ada") -> None:
        await self.voices.DeleteVoice(voices_pb2.DeleteVoiceRequest(name=name), metadata=self.metadata)

    async def listed(self) -> list[str]:
        answer = await self.tts.ListVoices(tts_pb2.ListVoicesRequest(), metadata=self.metadata)
        return [voice.name for voice in answer.voices]

    def say(self, voice: str = "ada", **fields: Any) -> Any:
        request = tts_pb2.StreamSynthesizeRequest(
            input=tts_pb2.SynthesisInput(text="Hello."),
            voice=tts_pb2.VoiceSelection(name=voice),
            audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
            **fields,
        )
        return self.tts.StreamSynthesize(request, metadata=self.metadata)


@asynccontextmanager
async def deployment_with_tokens(folder: Path, **settings: Any) -> AsyncIterator[FakeDeployment]:
    """A gateway for the callers of NAMES, whose codec finds no watermark."""
    tokens = [{"name": name, "sha256": digest_of(f"token-of-{name}")} for name in NAMES]
    (folder / "tokens.json").write_text(json.dumps(tokens))
    mine: dict[str, Any] = {
        "auth_tokens_file": folder / "tokens.json",
        "voices_database": str(folder / "voices.sqlite"),
    }
    async with fake_deployment(**(mine | settings)) as running:
        running.codec.detection = codec_pb2.DetectWatermarkResponse()
        yield running


@asynccontextmanager
async def calling(deployment: FakeDeployment, *names: str) -> AsyncIterator[list[Caller]]:
    async with grpc.aio.insecure_channel(deployment.target) as channel:
        yield [Caller(channel, name) for name in names]


def create_request(name: str, **changes: Any) -> voices_pb2.CreateVoiceRequest:
    """A valid request, which tests change."""
    fields: dict[str, Any] = {
        "name": name,
        "speaker": 1,
        "prompt": voices_pb2.VoicePrompt(text="What she says.", audio=recording()),
        "consent": voices_pb2.Consent(id="contract 17", text="She agrees."),
    }
    return voices_pb2.CreateVoiceRequest(**(fields | changes))


def recording(seconds: float = 2.0) -> tts_pb2.TurnAudio:
    format = tts_pb2.AudioFormat(audio_encoding=tts_pb2.AUDIO_ENCODING_WAV)
    return tts_pb2.TurnAudio(recording=tts_pb2.AudioRecording(audio_content=wav(seconds), audio_format=format))


def wav(seconds: float = 2.0, rate_hz: int = 8000) -> bytes:
    return wav_of(b"".join(_samples(round(seconds * rate_hz))), rate_hz)


def _samples(count: int) -> Iterator[bytes]:
    for index in range(count):
        yield struct.pack("<h", 8000 if index % 40 < 20 else -8000)


async def refusal(call: Any) -> StatusError:
    """The status of a call, which must fail."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return status.from_rpc_error(error)
    raise AssertionError("The call has not failed.")


async def read(call: Any) -> tts_pb2.StreamSynthesizeResponse:
    """Reads a stream to its end. Returns its header."""
    messages = [message async for message in call]
    assert messages[-1].WhichOneof("event") == "summary"
    header: tts_pb2.StreamSynthesizeResponse = messages[0].header
    return header
