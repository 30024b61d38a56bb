"""The stage as a whole: what it reports of itself, and what it refuses to start with."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import BundleError, CodecError, KeyringError
from csm_codec import codec as codec_module
from csm_codec.codec import Codec
from csm_codec.mimi.decoder import MimiDecoder
from csm_codec.stretch import Stretcher
from services.codec import load
from services.codec.load import _check_identity
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage, start_codec
from services.common.rpc.server import LIVENESS, READINESS
from tests.support.codec_stage import (
    FRAMES,
    config_message,
    decode,
    frames_message,
    random_codes,
    running_codec,
    stream_of,
)
from tests.support.waits import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_info_has_everything_but_the_keys(stub: Any) -> None:
    info = await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    assert (info.codec.name, info.codec.codebook_count, info.codec.sample_rate_hertz) == ("mimi", 4, 24000)
    assert (info.active_key_id, list(info.key_ids)) == ("new", ["old", "new"])
    assert info.latency_sample_count == 8 * 256 and info.notice == "untrained"
    assert bytes.fromhex("fe01fe01fe") not in info.SerializeToString()


async def test_a_stage_that_serves_has_loaded_the_filter_of_other_speeds(
    settings: CodecSettings, monkeypatch: pytest.MonkeyPatch, warm_up: Callable[[Codec, int], None]
) -> None:
    """Otherwise the thread of all streams would be blocked meanwhile."""
    speeds = []

    def stretcher(speed: float, sample_rate_hz: int) -> Stretcher:
        speeds.append(speed)
        return Stretcher(speed, sample_rate_hz)

    monkeypatch.setattr(codec_module, "Stretcher", stretcher)
    monkeypatch.setattr(load, "_warm_up", warm_up)
    async with running_codec(settings):
        assert speeds


async def test_a_codec_that_fails_its_first_frames_does_not_start(
    settings: CodecSettings, monkeypatch: pytest.MonkeyPatch, warm_up: Callable[[Codec, int], None]
) -> None:
    """Otherwise every stream would fail, one after the other."""
    monkeypatch.setattr(load, "_warm_up", warm_up)
    frame_step = MimiDecoder.frame_step
    monkeypatch.setattr(MimiDecoder, "frame_step", lambda *arguments: frame_step(*arguments) * math.nan)
    with pytest.raises(CodecError, match="is no sound"):
        await start_codec(settings)


async def test_metrics_count_what_happened(settings: CodecSettings) -> None:
    async with running_codec(settings, metrics_port=0) as (stage, stub):
        await decode(stub, stream_of(random_codes(), [FRAMES]))
        await eventually(lambda: stage.async_codec.num_streams == 0)
        text = await _metrics(stage)
    assert f"codec_frames_total {FRAMES}.0" in text
    assert 'codec_watermarked_streams_total{coverage="full"} 1.0' in text
    assert "codec_active_streams 0.0" in text
    assert "codec_tick_seconds_count" in text and "codec_watermark_seconds_total" in text


async def test_the_work_for_a_stream_that_is_cancelled_is_counted(settings: CodecSettings) -> None:
    async with running_codec(settings, metrics_port=0) as (stage, stub):
        call = stub.StreamDecode()
        await call.write(config_message())
        await call.write(frames_message(random_codes(4)))
        while not (await call.read()).HasField("audio"):
            pass
        call.cancel()
        await eventually(lambda: stage.async_codec.num_streams == 0)
        text = await _metrics(stage)
    assert 'codec_streams_ended_total{outcome="cancelled"} 1.0' in text
    assert 'codec_streams_ended_total{outcome="complete"} 0.0' in text
    assert "codec_decode_seconds_total 0.0\n" not in text and "codec_watermark_seconds_total 0.0\n" not in text


async def _metrics(stage: CodecStage) -> str:
    url = f"http://127.0.0.1:{stage.server.metrics_port}/metrics"
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())


async def test_a_hanging_recording_thread_is_reported(settings: CodecSettings) -> None:
    """Decoding goes on, so nothing else shows that."""
    go_on = threading.Event()
    async with running_codec(settings, recording_stall_seconds=0.5) as (stage, stub):
        hung = asyncio.create_task(stage._recordings.run(lambda: go_on.wait(60)))
        try:
            await _wait_until(stage, LIVENESS, NOT_SERVING)
            await _wait_until(stage, READINESS, NOT_SERVING)
            await decode(stub, stream_of(random_codes(), [FRAMES]))
        finally:
            go_on.set()
        await _wait_until(stage, LIVENESS, SERVING)
        await _wait_until(stage, READINESS, SERVING)
        assert await hung


async def test_a_recording_may_take_longer_than_a_decode_step(settings: CodecSettings) -> None:
    """The stage is not restarted for it: the thread for recordings has a limit of its own."""
    go_on = threading.Event()
    async with running_codec(settings, stall_seconds=0.5, recording_stall_seconds=300) as (stage, _):
        working = asyncio.create_task(stage._recordings.run(lambda: go_on.wait(60)))
        await eventually(lambda: stage._recordings._watchdog.missed >= 2)
        assert not stage.server._stalled
        go_on.set()
        assert await working


async def _wait_until(stage: CodecStage, service: str, wanted: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.health_port}") as channel, asyncio.timeout(30):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))
        async for answer in watch:
            if answer.status == wanted:
                return


async def test_a_bundle_that_misstates_its_codec_is_refused(
    settings: CodecSettings, bundle: Path, tmp_path: Path
) -> None:
    lying = tmp_path / "lying"
    lying.mkdir()
    manifest = json.loads((bundle / "bundle.json").read_text())
    for part in manifest["parts"]:
        (lying / part).symlink_to(bundle / part)
    manifest["codec"]["weights_digest"] = "sha256:0"
    (lying / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="weights_digest is sha256:0; its weights have sha256:"):
        await start_codec(settings.model_copy(update={"bundle": str(lying)}))


async def test_the_threads_are_stopped_at_once(settings: CodecSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """If both hang, the stage waits for them once."""
    stage, both = await start_codec(settings), threading.Barrier(2, timeout=20)
    for worker in (stage.async_codec.threads[0].worker, stage._recordings._worker):
        monkeypatch.setattr(worker, "stop", lambda stop=worker.stop: (both.wait(), stop()))
    await stage.stop()


async def test_a_stage_that_cannot_listen_leaves_no_thread(settings: CodecSettings) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="the port may be taken"):
            await start_codec(settings.model_copy(update={"port": taken.getsockname()[1]}))
    assert {"codec", "recordings"}.isdisjoint(thread.name for thread in set(threading.enumerate()) - before)


@pytest.mark.parametrize("field", [field.name for field in fields(CodecIdentity)])
def test_every_field_of_the_codec_must_be_as_the_bundle_says(field: str) -> None:
    found = CodecIdentity("mimi", "sha256:1", 4, 64, 1920, 24_000)
    value = getattr(found, field)
    change: dict[str, Any] = {field: "another" if isinstance(value, str) else value + 1}
    said = replace(found, **change)
    bundle: Any = SimpleNamespace(name="lying", codec=said)
    mimi: Any = SimpleNamespace(identity=found)
    with pytest.raises(BundleError, match=f"its codec's {field} is"):
        _check_identity(bundle, mimi)


@pytest.mark.parametrize("codec", [None, CodecIdentity("mimi", "", 4, 64, 1920, 24_000)])
def test_a_bundle_need_not_describe_its_codec_nor_pin_its_weights(codec: CodecIdentity | None) -> None:
    bundle: Any = SimpleNamespace(name="brief", codec=codec)
    mimi: Any = SimpleNamespace(identity=CodecIdentity("mimi", "sha256:1", 4, 64, 1920, 24_000))
    _check_identity(bundle, mimi)


async def test_the_public_key_stops_the_start(settings: CodecSettings) -> None:
    keyring = {"format": 1, "active": "k", "keys": {"k": bytes((212, 211, 146, 56, 201)).hex()}}
    settings.watermark_keyring.write_text(json.dumps(keyring))
    with pytest.raises(KeyringError, match="published"):
        await start_codec(settings)
    async with running_codec(settings, allow_public_watermark_key=True):
        pass
