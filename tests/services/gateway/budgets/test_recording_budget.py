"""Recordings of all methods share one budget, and are freed once they are encoded. Text calls need none of it."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc, voices_pb2, voices_pb2_grpc

from services.common.rpc import status
from services.gateway.audio.recording import Recording
from services.gateway.budgets.recording_budget import decoded_in_thread
from services.gateway.requests.validation import plan_synthesis
from services.gateway.rpc import planning
from tests.services.gateway.voices.callers import wav
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import FakeCodec, fake_frames
from tests.support.waits import eventually

MIB = 2**20
CONTENT = bytes(MIB)  # of A-law, 2 MiB of samples: more than the budget


class Codec(FakeCodec):
    """A codec that encodes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.encoding, self.may_encode = asyncio.Event(), asyncio.Event()

    async def encode(self, recording: codec_pb2.EncodeRequest) -> codec_pb2.EncodeResponse:
        self.encoding.set()
        await self.may_encode.wait()
        return await super().encode(recording)


Call = Callable[[grpc.aio.Channel], Awaitable[Any]]


def recording() -> tts_pb2.AudioRecording:
    made = tts_pb2.AudioRecording(audio_content=CONTENT)
    made.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_ALAW
    made.audio_format.sample_rate_hertz = 192_000
    return made


def asked(*, text: str = "Hello.", with_recording: bool = True) -> tts_pb2.StreamSynthesizeRequest:
    request = tts_pb2.StreamSynthesizeRequest(input=tts_pb2.SynthesisInput(text=text))
    request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    if with_recording:
        request.context.turns.add(text="Before.").audio.recording.CopyFrom(recording())
    return request


async def streamed(channel: grpc.aio.Channel) -> Any:
    return [answer async for answer in tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(asked())]


async def whole(channel: grpc.aio.Channel) -> Any:
    request = tts_pb2.SynthesizeRequest.FromString(asked().SerializeToString())
    return await tts_pb2_grpc.TextToSpeechServiceStub(channel).Synthesize(request)


async def written(channel: grpc.aio.Channel) -> Any:
    messages = [
        tts_pb2.StreamSynthesizeTextRequest(config=asked(text="")),
        tts_pb2.StreamSynthesizeTextRequest(text=tts_pb2.TextPiece(text="Hello.")),
    ]
    stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
    return [answer async for answer in stub.StreamSynthesizeText(iter(messages))]


async def kept(channel: grpc.aio.Channel) -> Any:
    request = voices_pb2.CreateVoiceRequest(name="mine", consent=voices_pb2.Consent(id="1", text="Yes."))
    request.prompt.text = "Before."
    request.prompt.audio.recording.CopyFrom(recording())
    return await voices_pb2_grpc.VoiceServiceStub(channel).CreateVoice(request)


@asynccontextmanager
async def budget(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[FakeDeployment, Codec, grpc.aio.Channel]]:
    own: dict[str, Any] = {"max_recording_bytes": MIB, "voices_database": str(tmp_path / "voices.sqlite")}
    async with fake_deployment(codec=Codec, **(own | settings)) as running:
        await running.gateway.wait_ready()
        async with grpc.aio.insecure_channel(running.target) as channel:
            codec = running.codec
            assert isinstance(codec, Codec)
            codec.detection = codec_pb2.DetectWatermarkResponse()
            yield running, codec, channel


def gauge(running: FakeDeployment, name: str) -> float | None:
    return running.gateway.server.metrics.registry.get_sample_value(name)


def refused(running: FakeDeployment, where: str) -> float | None:
    registry = running.gateway.server.metrics.registry
    return registry.get_sample_value("tts_refused_recordings_total", {"where": where})


@pytest.mark.parametrize("call", [streamed, whole, written, kept])
async def test_calls_wait_for_the_budget_and_one_too_many_is_refused(tmp_path: Path, call: Call) -> None:
    async with budget(tmp_path, max_waiting_recordings=1) as (running, codec, channel):
        first = asyncio.ensure_future(streamed(channel))
        await codec.encoding.wait()
        assert gauge(running, "tts_recording_bytes") == MIB
        second = asyncio.ensure_future(call(channel))
        await eventually(lambda: gauge(running, "tts_waiting_recordings") == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel)
        error = status.from_rpc_error(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RECORDINGS_BUSY")
        assert error.retry_delay_s is not None and refused(running, "waiting") == 1
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert len([_ async for _ in stub.StreamSynthesize(asked(with_recording=False))]) > 1, "no recording, no wait"
        codec.may_encode.set()
        assert await first and await second
        for name in ("tts_recording_bytes", "tts_waiting_recordings", "tts_large_requests"):
            assert gauge(running, name) == 0
        assert len(codec.encoded) == 2


async def test_a_decoded_recording_is_charged_for_its_own_samples(tmp_path: Path) -> None:
    soundfile.write(file := io.BytesIO(), np.zeros(24_000, np.int16), 24_000, format="FLAC")
    given = (request := asked()).context.turns[0].audio.recording
    given.audio_content, given.audio_format.audio_encoding = file.getvalue(), tts_pb2.AUDIO_ENCODING_FLAC
    async with budget(tmp_path) as (running, codec, channel):
        _ = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(request)
        await codec.encoding.wait()
        assert gauge(running, "tts_recording_bytes") == 2 * 24_000


async def test_a_voice_from_codes_needs_no_memory_for_recordings(tmp_path: Path) -> None:
    settings = {"max_waiting_recordings": 1, "code_sealing": "open", "voices_from_own_output": True}
    async with budget(tmp_path, **settings) as (running, codec, channel):
        calls = [asyncio.ensure_future(streamed(channel)) for _ in range(2)]
        await eventually(lambda: gauge(running, "tts_waiting_recordings") == 1)
        request = voices_pb2.CreateVoiceRequest(name="mine", consent=voices_pb2.Consent(id="1", text="Yes."))
        request.prompt.text = "Before."
        request.prompt.audio.codes.CopyFrom(fake_frames(0, 30))
        answer = await voices_pb2_grpc.VoiceServiceStub(channel).CreateVoice(request)
        assert answer.voice.voice.has_prompt
        codec.may_encode.set()
        assert all(await asyncio.gather(*calls))


async def test_a_running_stream_holds_no_recording(tmp_path: Path) -> None:
    async with budget(tmp_path) as (running, codec, channel):
        codec.may_encode.set()
        running.engine.script.pause_at = 3
        stream = asyncio.ensure_future(streamed(channel))
        text = asyncio.ensure_future(written(channel))
        await eventually(lambda: len(running.engine.calls) == 2)
        codec.encoded.clear()
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Recording]
        assert gauge(running, "tts_recording_bytes") == gauge(running, "tts_large_requests") == 0
        running.engine.script.resume.set()
        assert await stream and await text


async def test_samples_are_released_once_they_are_sent(tmp_path: Path) -> None:
    """While the codec encodes, the gateway holds no samples."""
    async with budget(tmp_path) as (running, codec, channel):
        stream = asyncio.ensure_future(streamed(channel))
        await codec.encoding.wait()
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Recording]
        codec.may_encode.set()
        assert await stream


async def test_large_requests_are_bounded_before_they_are_decoded(tmp_path: Path) -> None:
    async with budget(tmp_path, max_large_requests=1) as (running, codec, channel):
        first = asyncio.ensure_future(streamed(channel))
        await codec.encoding.wait()
        second = asyncio.ensure_future(streamed(channel))  # it has a place, and waits for the budget
        await eventually(lambda: gauge(running, "tts_waiting_recordings") == 1)
        assert gauge(running, "tts_large_requests") == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await streamed(channel)
        assert status.from_rpc_error(caught.value).reason == "RECORDINGS_BUSY"
        assert refused(running, "arriving") == 1
        announced = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(
            asked(), metadata=(("csm-request-bytes", str(len(CONTENT))),)
        )
        await asyncio.sleep(0.1)
        assert not announced.done()
        codec.may_encode.set()
        assert await first and await second
        assert len([_ async for _ in announced]) > 1


async def test_a_failed_cancelled_or_refused_call_gives_its_share_back(tmp_path: Path) -> None:
    async with budget(tmp_path) as (running, codec, channel):
        leaving = asyncio.ensure_future(streamed(channel))
        await codec.encoding.wait()
        leaving.cancel()
        await eventually(lambda: gauge(running, "tts_recording_bytes") == 0)
        labels = {"stage": "context"}
        registry = running.gateway.server.metrics.registry
        await eventually(lambda: registry.get_sample_value("tts_cancelled_total", labels) == 1)
        codec.may_encode.set()
        codec.refusal = status.StatusError(grpc.StatusCode.UNAVAILABLE, "CODEC_BUSY", "It is full.")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await streamed(channel)
        assert status.from_rpc_error(caught.value).reason == "CODEC_BUSY"
        assert registry.get_sample_value("tts_failed_total", {"reason": "CODEC_BUSY"}) == 1
        assert gauge(running, "tts_recording_bytes") == 0
        (wrong := asked()).context.turns[0].audio.recording.audio_format.channel_count = -1
        with pytest.raises(grpc.aio.AioRpcError, match="channel_count"):
            await tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(wrong).read()
        assert gauge(running, "tts_recording_bytes") == 0, "negative samples took less than nothing"


async def test_a_decoder_that_is_cancelled_keeps_its_share_until_its_thread_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def decode(*given: Any, **named: Any) -> Any:
        begun.set()
        may_end.wait(30)
        return plan_synthesis(*given, **named)

    monkeypatch.setattr(planning, "plan_synthesis", decode)
    async with budget(tmp_path) as (running, codec, channel):
        leaving = asyncio.ensure_future(streamed(channel))
        await asyncio.to_thread(begun.wait, 30)
        leaving.cancel()
        await asyncio.sleep(0.1)
        assert gauge(running, "tts_recording_bytes") == MIB
        may_end.set()
        await eventually(lambda: gauge(running, "tts_recording_bytes") == 0)
        assert not codec.encoded


async def test_a_decoder_ends_after_its_thread_also_when_it_is_cancelled_twice() -> None:
    """Such as a deadline that passes here first, and a moment later at the caller."""
    begun, may_end = threading.Event(), threading.Event()

    def decode() -> None:
        begun.set()
        may_end.wait(30)

    decoding = asyncio.create_task(decoded_in_thread(decode))
    await asyncio.to_thread(begun.wait, 30)
    for _ in range(3):
        decoding.cancel()
        assert not (await asyncio.wait({decoding}, timeout=0.05))[0]
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await decoding


def test_client_and_gateway_use_the_same_size_header() -> None:
    from csm_client.requests import size_metadata

    from services.gateway.budgets.arrivals import ANNOUNCED_KEY

    ((key, value),) = size_metadata(asked())
    assert key == ANNOUNCED_KEY and int(value) >= len(CONTENT)
    assert size_metadata(asked(with_recording=False)) == ()


async def test_prompts_of_the_operator_s_folder_wait_for_the_budget(tmp_path: Path) -> None:
    consent = {"id": "1", "text": "Yes."}
    content = {"format": 1, "speaker": 1, "text": "What she says.", "audio": "prompt.wav", "consent": consent}
    for name in ("carol", "dave"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "voice.json").write_text(json.dumps(content))
        (tmp_path / name / "prompt.wav").write_bytes(wav(len(name), rate_hz=96_000))  # 0.96 and 0.77 MB
    async with budget(tmp_path, voices_folder=tmp_path) as (running, codec, channel):
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)

        async def say(voice: str) -> Any:
            request = asked(with_recording=False)
            request.voice.name = voice
            return [answer async for answer in stub.StreamSynthesize(request)]

        speaking = [asyncio.ensure_future(say("carol"))]
        await codec.encoding.wait()
        assert gauge(running, "tts_recording_bytes") == 2 * 5 * 96_000
        speaking.append(asyncio.ensure_future(say("dave")))
        await eventually(lambda: gauge(running, "tts_waiting_recordings") == 1)
        codec.may_encode.set()
        assert all(len(answers) > 1 for answers in await asyncio.gather(*speaking))
        assert gauge(running, "tts_recording_bytes") == 0
