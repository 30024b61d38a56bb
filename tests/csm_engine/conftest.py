"""A tiny CSM, and engines that run it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import pack
from csm_engine.loop.engine import Engine
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.reference.frame_step import ReferenceFrameStep
from tests.support.tiny.csm import TINY
from tests.support.tiny.tokenizer import byte_tokenizer


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    return TINY


@pytest.fixture(scope="session")
def tokenizer(tiny_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), tiny_config.text_vocab_size)


@pytest.fixture(scope="session")
def model(tiny_config: ModelConfig) -> CSM:
    return random_model(tiny_config, seed=1)


@pytest.fixture(params=["reference", "packed", "packed, read one step later"])
def make_engine(request: pytest.FixtureRequest, model: CSM, tokenizer: TextTokenizer) -> Callable[..., Engine]:
    """Runs each test with the reference step, and with the fast step read at once and one step later."""

    def make(model: CSM = model, **settings: int) -> Engine:
        config = EngineConfig(pipeline_depth=int("later" in request.param), **settings)
        if request.param == "reference":
            return Engine(ReferenceFrameStep(model, config.total_slots), tokenizer, config)
        return Engine(PackedFrameStep(pack(model), config.total_slots), tokenizer, config)

    return make
