"""How many syntheses a caller may run at once, at a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2, watermark_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pydantic import ValidationError

from services.common.rpc import status
from services.common.rpc.status import StatusError
from services.gateway.auth import quotas
from services.gateway.auth.quotas import StreamQuotas
from services.gateway.auth.tokens import digest_of
from services.gateway.settings import GatewaySettings
from tests.support.fake_deployment import FakeDeployment, fake_deployment, read_until_audio
from tests.support.text_streams import messages_of
from tests.support.waits import eventually

Stub = Any


def entry(name: str, **limit: int) -> dict[str, object]:
    return {"name": name, "sha256": digest_of(f"token-of-{name}"), **limit}


def of(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer token-of-{name}"),)


@asynccontextmanager
async def shared(
    folder: Path, *entries: dict[str, object], **settings: Any
) -> AsyncIterator[tuple[FakeDeployment, Stub]]:
    """A gateway whose engine waits before the first frame until the test lets it go on."""
    (folder / "tokens.json").write_text(json.dumps(entries))
    async with fake_deployment(auth_tokens_file=folder / "tokens.json", **settings) as running:
        running.engine.script.pause_at = 0
        async with grpc.aio.insecure_channel(running.target) as channel:
            yield running, tts_pb2_grpc.TextToSpeechServiceStub(channel)


async def ended(call: Any) -> str:
    """The reason for which a call was refused, or "OK"."""
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return status.from_rpc_error(error).reason
    return "OK"


async def test_each_caller_has_a_quota_of_its_own(tmp_path: Path, stream_request: Any) -> None:
    async with shared(tmp_path, entry("ada", max_streams=1), entry("bo")) as (running, stub):
        first = stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)
        await running.engine.script.paused.wait()
        assert await ended(stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)) == "QUOTA_EXCEEDED"
        others = [stub.StreamSynthesize(stream_request, metadata=of("bo"), timeout=30) for _ in range(3)]
        await eventually(lambda: len(running.engine.calls) == 4)
        running.engine.script.resume.set()
        assert [await ended(call) for call in (first, *others)] == ["OK"] * 4
        assert await ended(stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)) == "OK"
        seen = running.gateway.server.metrics.registry.get_sample_value
        assert seen("tts_refused_calls_total", {"reason": "QUOTA_EXCEEDED"}) == 1


async def test_search_for_the_watermark_counts_in_the_quota(tmp_path: Path, stream_request: Any) -> None:
    async with shared(tmp_path, entry("ada", max_streams=1), entry("bo")) as (running, stub):
        speaking = stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)
        await running.engine.script.paused.wait()
        recording = tts_pb2.AudioRecording(
            audio_format=tts_pb2.AudioFormat(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=24_000),
            audio_content=bytes(4800),
        )
        request = watermark_pb2.DetectWatermarkRequest(recording=recording)
        async with grpc.aio.insecure_channel(running.target) as channel:
            detect = watermark_pb2_grpc.WatermarkServiceStub(channel).DetectWatermark
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await detect(request, metadata=of("ada"), timeout=30)
            assert status.from_rpc_error(raised.value).reason == "QUOTA_EXCEEDED"
            assert (await detect(request, metadata=of("bo"), timeout=30)).detected
            running.engine.script.resume.set()
            assert await ended(speaking) == "OK"
            assert (await detect(request, metadata=of("ada"), timeout=30)).detected


async def test_a_refusal_names_the_quota_and_a_retry_delay(tmp_path: Path, stream_request: Any) -> None:
    """Synthesize and StreamSynthesize count together; other methods do not count."""
    async with shared(tmp_path, entry("ada"), max_streams_per_caller=1) as (running, stub):
        first = stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)
        await running.engine.script.paused.wait()
        await stub.GetServerInfo(tts_pb2.GetServerInfoRequest(), metadata=of("ada"), timeout=30)
        with pytest.raises(
            grpc.aio.AioRpcError, match="ada already runs as many syntheses at once as it may: 1"
        ) as refused:
            await stub.Synthesize(
                tts_pb2.SynthesizeRequest(input=stream_request.input, audio_config=stream_request.audio_config),
                metadata=of("ada"),
                timeout=30,
            )
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error: Any = refused.value
        details = rpc_status.from_call(error).details
        failures = [error_details_pb2.QuotaFailure.FromString(any.value) for any in details if "Quota" in any.type_url]
        assert [(v.subject, v.description) for f in failures for v in f.violations] == [
            ("caller:ada", "syntheses at once: 1")
        ]
        assert status.from_rpc_error(refused.value).retry_delay_s == 1.0
        first.cancel()


async def test_cancelled_and_failed_syntheses_give_their_place_back(tmp_path: Path, stream_request: Any) -> None:
    async with shared(tmp_path, entry("ada", max_streams=1)) as (running, stub):
        first = stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)
        await running.engine.script.paused.wait()
        first.cancel()
        registry = running.gateway.server.metrics.registry
        await eventually(lambda: registry.get_sample_value("tts_running_requests") == 0)
        running.engine.script.resume.set()
        wrong = type(stream_request)()
        assert await ended(stub.StreamSynthesize(wrong, metadata=of("ada"), timeout=30)) not in ("OK", "QUOTA_EXCEEDED")
        assert await ended(stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)) == "OK"


@pytest.mark.parametrize("kind", ["utterance", "text"])
async def test_a_caller_can_start_a_synthesis_right_after_a_cancel(
    tmp_path: Path, stream_request: Any, kind: str
) -> None:
    """So a caller with a quota of one stream can interrupt it: the server may not have ended the first one yet."""
    async with shared(tmp_path, entry("ada", max_streams=1)) as (running, stub):
        running.engine.script.pause_at = 1
        config = type(stream_request)()
        config.CopyFrom(stream_request)
        config.input.ClearField("text")

        def begin() -> Any:
            if kind == "utterance":
                return stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)
            return stub.StreamSynthesizeText(messages_of(config, ["Hello."]), metadata=of("ada"), timeout=30)

        for _ in range(3):
            call = begin()
            await read_until_audio(call)
            call.cancel()
        running.engine.script.resume.set()
        assert await ended(begin()) == "OK"
        seen = running.gateway.server.metrics.registry.get_sample_value
        assert seen("tts_refused_calls_total", {"reason": "QUOTA_EXCEEDED"}) == 0


async def test_a_cancelled_synthesis_that_does_not_end_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "_CANCEL_WAIT_S", 0.01)
    counted = StreamQuotas(lambda caller: 1, lambda: None)
    may_end = asyncio.Event()

    async def linger() -> None:
        async with counted.one_more("ada"):
            try:
                await asyncio.sleep(60)
            finally:
                await may_end.wait()

    lingering = asyncio.create_task(linger())
    await asyncio.sleep(0)
    lingering.cancel()
    with pytest.raises(StatusError):
        async with counted.one_more("ada"):
            pass
    may_end.set()
    async with counted.one_more("ada"):
        assert lingering.done()


async def test_changed_file_changes_the_quota_of_a_running_gateway(
    tmp_path: Path, stream_request: Any, look_at_files: Callable[[], None]
) -> None:
    async with shared(tmp_path, entry("ada", max_streams=1)) as (running, stub):
        calls = [stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)]
        await running.engine.script.paused.wait()
        (tmp_path / "tokens.json").write_text(json.dumps([entry("ada", max_streams=2)]))
        look_at_files()
        calls.append(stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30))
        await eventually(lambda: len(running.engine.calls) == 2)
        assert await ended(stub.StreamSynthesize(stream_request, metadata=of("ada"), timeout=30)) == "QUOTA_EXCEEDED"
        running.engine.script.resume.set()
        assert [await ended(call) for call in calls] == ["OK"] * 2


async def test_without_a_limit_callers_are_unlimited_and_none_is_remembered() -> None:
    counted = StreamQuotas({"ada": 2}.get, lambda: None)  # type: ignore[arg-type]
    one = counted.one_more
    async with one("bo"), one("bo"), one("ada"), one("ada"):
        with pytest.raises(StatusError):
            async with one("ada"):
                pass
    assert not counted._running


def test_a_limit_for_all_needs_names() -> None:
    with pytest.raises(ValidationError, match="--max-streams-per-caller needs --auth-tokens-file"):
        GatewaySettings(max_streams_per_caller=3)
