"""A real codec stage with tiny networks, and a client stub to call it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import grpc
import pytest
from csm.codec.v1 import codec_pb2_grpc

from csm_codec.codec import Codec
from csm_codec.mimi.loader import load_mimi
from csm_codec.watermark.networks.silentcipher import load_silentcipher
from services.codec import load
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage, start_codec
from tests.support.cost.given_settings import given_settings
from tests.support.tiny.mimi import write_tiny_mimi
from tests.support.tiny.silentcipher import write_tiny_silentcipher


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    identity = write_tiny_mimi(folder / "mimi", 0, num_codebooks=4, codebook_size=64, context=20, width=32)
    write_tiny_silentcipher(folder / "silentcipher", 0, n_fft=512)
    manifest = {
        "format": 1,
        "name": "tiny",
        "version": "1",
        "notice": "untrained",
        "parts": {"mimi": "mimi", "silentcipher": "silentcipher"},
        "codec": asdict(identity),
        "voices": [{"name": "anna", "speaker": 1}],
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session", autouse=True)
def warm_up() -> Iterator[Callable[[Codec, int], None]]:
    """That of a start. In these tests the first stage alone warms up, which compiles, and networks are read once: both
    are most of a start, and no stage changes them."""
    warm_up = load._warm_up

    def warm_up_once(codec: Codec, codebook_count: int) -> None:
        warm_up(codec, codebook_count)
        patch.setattr(load, "_warm_up", lambda codec, codebook_count: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "load_mimi", cache(load_mimi))
        patch.setattr(load, "load_silentcipher", cache(load_silentcipher))
        patch.setattr(load, "_warm_up", warm_up_once)
        yield warm_up


@pytest.fixture
def settings(bundle: Path, tmp_path: Path) -> CodecSettings:
    keyring = {"format": 1, "active": "new", "keys": {"old": "0102030405", "new": "fe01fe01fe"}}
    (tmp_path / "keys.json").write_text(json.dumps(keyring))
    return given_settings(
        CodecSettings,
        host="127.0.0.1",
        port=0,
        health_port=0,
        metrics_port=-1,
        bundle=str(bundle),
        slots=2,
        max_waiting_streams=1,
        watermark_keyring=tmp_path / "keys.json",
        max_recording_seconds=5,
        drain_seconds=1,
    )


@pytest.fixture
async def stage(settings: CodecSettings) -> AsyncIterator[CodecStage]:
    stage = await start_codec(settings)
    yield stage
    await stage.stop()


@pytest.fixture
async def stub(stage: CodecStage) -> AsyncIterator[codec_pb2_grpc.CodecServiceStub]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        yield codec_pb2_grpc.CodecServiceStub(channel)
