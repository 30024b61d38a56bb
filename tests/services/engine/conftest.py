"""A real engine stage with a tiny random model, and a client stub to call it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2_grpc

from csm_engine.model.shapes import ModelConfig, TransformerConfig
from services.engine.settings import EngineSettings
from services.engine.stage import EngineStage, start_engine
from tests.support.tiny.csm import write_original
from tests.support.tiny.tokenizer import write_byte_tokenizer

TINY = ModelConfig(
    backbone=TransformerConfig(num_layers=1, dim=16, num_heads=2, num_kv_heads=1, ffn_dim=32, max_seq_len=512),
    depth_decoder=TransformerConfig(num_layers=1, dim=16, num_heads=2, num_kv_heads=1, ffn_dim=16, max_seq_len=8),
    text_vocab_size=320,
    audio_vocab_size=35,
    num_codebooks=4,
    codebook_size=32,
)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_original(folder / "model", TINY, seed=0)
    write_byte_tokenizer(folder / "tokenizer.json")
    manifest = {
        "format": 1,
        "name": "tiny",
        "version": "1",
        "notice": "untrained",
        "parts": {"model": "model", "tokenizer": "tokenizer.json"},
        "codec": {
            "name": "mimi",
            "weights_digest": "abc",
            "codebook_count": 4,
            "codebook_size": 32,
            "frame_sample_count": 1920,
            "sample_rate_hertz": 24000,
        },
        "voices": [{"name": "anna", "speaker": 1, "language_codes": ["en"], "description": "A voice."}],
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def settings(bundle: Path) -> EngineSettings:
    return EngineSettings(
        host="127.0.0.1", port=0, health_port=0, metrics_port=0, bundle=str(bundle), slots=2, max_waiting=1
    )


@pytest.fixture
async def stage(settings: EngineSettings) -> AsyncIterator[EngineStage]:
    stage = await start_engine(settings.model_copy(update={"drain_seconds": 0.0, "max_playout_lead_seconds": 1.0}))
    yield stage
    await stage.stop()


@pytest.fixture
async def stub(stage: EngineStage) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        yield engine_pb2_grpc.EngineServiceStub(channel)
