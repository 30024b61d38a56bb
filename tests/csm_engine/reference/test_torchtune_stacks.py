"""torchtune's stacks run our weights: their parameters are ours, and their rotary tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from csm_engine.model.csm import CSM
from csm_engine.model.rope import rope_table
from csm_engine.model.shapes import FLAVORS, ModelConfig, TransformerConfig
from csm_engine.reference.torchtune_stacks import with_torchtune
from tests.support.tiny.csm import TINY


@pytest.mark.parametrize("config", [TINY, replace(TINY, depth_decoder=replace(TINY.depth_decoder, num_layers=3))])
def test_parameters_have_torchtunes_names_shapes_and_order(config: ModelConfig) -> None:
    """Random weights are drawn, and digests made, in this order."""
    with torch.device("meta"):
        ours = CSM(config)
    running = with_torchtune(ours.to_empty(device="cpu"))
    told = [[(name, one.shape) for name, one in model.named_parameters()] for model in (ours, running)]
    assert told[0] == told[1]


def test_the_weights_are_shared(model: CSM) -> None:
    running = with_torchtune(model)
    for name, parameter in running.named_parameters():
        assert parameter.data_ptr() == model.get_parameter(name).data_ptr(), name


@pytest.mark.parametrize(
    "config",
    [
        FLAVORS["llama-1B"],
        FLAVORS["llama-100M"],
        replace(FLAVORS["llama-1B"], max_seq_len=300, rope_base=10_000, rope_scale_factor=8),
        TransformerConfig(num_layers=1, dim=24, num_heads=4, num_kv_heads=2, ffn_dim=8, max_seq_len=33),
    ],
)
def test_rotary_tables_are_torchtunes(config: TransformerConfig) -> None:
    from torchtune.models.llama3_1._position_embeddings import Llama3ScaledRoPE  # takes seconds

    theirs = Llama3ScaledRoPE(
        config.head_dim, config.max_seq_len, base=config.rope_base, scale_factor=config.rope_scale_factor
    )
    assert torch.equal(rope_table(config, torch.device("cpu")), theirs.cache)
