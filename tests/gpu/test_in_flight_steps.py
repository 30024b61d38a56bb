"""On a CUDA device: frames read late are the same, launches wait for nothing, spilled memory comes back right."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch

from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.weights import PackedWeights, pack
from csm_engine.kv.host_offload import OffloadedKV
from csm_engine.kv.offload_index import Page
from csm_engine.loop.engine import Engine
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import Codes, GenerationRequest, SamplingParams, Segment
from tests.gpu.device import DEVICE
from tests.support.generation import run_all
from tests.support.tiny.tokenizer import byte_tokenizer

SMALL = ModelConfig(
    backbone=TransformerConfig(num_layers=2, dim=256, num_heads=4, num_kv_heads=2, ffn_dim=512, max_seq_len=256),
    depth_decoder=TransformerConfig(num_layers=1, dim=128, num_heads=2, num_kv_heads=1, ffn_dim=256, max_seq_len=16),
    text_vocab_size=320,
    audio_vocab_size=67,
    num_codebooks=8,
    codebook_size=64,
)


@pytest.fixture(scope="module")
def weights() -> PackedWeights:
    return pack(random_model(SMALL, seed=1, device=DEVICE, dtype=torch.bfloat16))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), SMALL.text_vocab_size)


def engine(weights: PackedWeights, tokenizer: TextTokenizer, lag: int) -> Engine:
    config = EngineConfig(slots=4, spare_slots=2, prefill_chunk=16, max_waiting=99, pipeline_depth=lag)
    runner = GraphRunner(PackedFrameStep(weights, config.total_slots), config.slots, constant_shape=True)
    return Engine(runner, tokenizer, config)


def spoken(engine: Engine) -> dict[str, Codes]:
    """Twelve requests of different lengths, one added every third step."""
    requests = [
        GenerationRequest(str(i), [Segment(0, "Hi " * (1 + i % 5))], 5 + 3 * (i % 7), SamplingParams(seed=i))
        for i in range(12)
    ]
    return run_all(engine, requests, steps_between=3)


def test_read_late_equals_read_at_once(weights: PackedWeights, tokenizer: TextTokenizer) -> None:
    at_once, later = spoken(engine(weights, tokenizer, 0)), spoken(engine(weights, tokenizer, 1))
    assert at_once.keys() == later.keys()
    for name, frames in at_once.items():
        np.testing.assert_array_equal(frames, later[name])


def test_prefill_and_launch_wait_for_nothing(
    weights: PackedWeights, tokenizer: TextTokenizer, refuse_host_syncs: Callable[[], AbstractContextManager[None]]
) -> None:
    """Only reading may block: a prompt, a start and a launch do not raise under sync debugging."""
    running = engine(weights, tokenizer, 1)
    spoken(running)  # what is made once is made
    running.add_request(GenerationRequest("a", [Segment(0, "Hello there.")], 20))
    with refuse_host_syncs():
        while not len(running._steps):
            running.step()
    while running.has_work:
        running.step()


@torch.inference_mode()
def test_offloaded_keys_and_values_come_back_to_the_bit(weights: PackedWeights) -> None:
    """Even when an entry's memory is freed at once: queued copies keep it."""
    cache = PackedFrameStep(weights, 3).backbone.cache
    for layer in cache.layers:
        layer.keys.normal_()
        layer.values.normal_()
    before = [(layer.keys[1, :200].clone(), layer.values[1, :200].clone()) for layer in cache.layers]
    offloaded = OffloadedKV(cache, Page.pinned(cache.bytes_per_position))
    offloaded.save(0, 1, 200)
    for layer in cache.layers:
        layer.keys[1].zero_()
        layer.values[1].zero_()
    offloaded.restore(0, 2, 150)
    offloaded.drop([0])
    offloaded.save(1, 0, 200)  # takes the same host memory
    for layer, (keys, values) in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.keys[2, :150], keys[:150]) and torch.equal(layer.values[2, :150], values[:150])
