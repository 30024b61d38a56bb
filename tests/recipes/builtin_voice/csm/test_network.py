"""Whole sequences in training give what the engine gives position by position."""

from __future__ import annotations

import torch

from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.reference.backbone import Backbone
from csm_engine.reference.depth_decoder import DepthDecoder
from recipes.builtin_voice.csm.network import backbone_states, depth_logits, new_csm

CONFIG = ModelConfig(
    backbone=TransformerConfig(num_layers=2, dim=32, num_heads=4, num_kv_heads=2, ffn_dim=48),
    depth_decoder=TransformerConfig(num_layers=2, dim=16, num_heads=2, num_kv_heads=1, ffn_dim=24),
    text_vocab_size=40,
    audio_vocab_size=33,
    num_codebooks=4,
    codebook_size=30,
)


@torch.no_grad()
def test_training_states_and_logits_are_the_engines() -> None:
    model = new_csm(CONFIG, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 30, (1, 9, 5), generator=generator)
    is_audio = torch.arange(9)[None] >= 4
    states = backbone_states(model, tokens, is_audio)[0]
    codes = torch.randint(0, 30, (9, 4), generator=generator)
    logits = depth_logits(model, states, codes)

    mask = is_audio[0, :, None].expand(9, 5).clone()
    mask[:, -1] = ~is_audio[0]
    embeddings = model.embed_rows(tokens[0].masked_fill(~mask, -1))
    backbone, slot = Backbone(model, 1), torch.tensor([0])
    stepped = [
        backbone.step(embeddings[position : position + 1], slot, torch.tensor([position]), position + 1)[0]
        for position in range(9)
    ]
    torch.testing.assert_close(states, torch.stack(stepped), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, DepthDecoder(model).logits(states, codes), rtol=1e-4, atol=1e-5)


def test_everything_is_trained() -> None:
    model = new_csm(CONFIG, seed=0)
    tokens = torch.randint(0, 30, (2, 9, 5))
    is_audio = torch.arange(9)[None].expand(2, 9) >= 4
    states = backbone_states(model, tokens, is_audio)
    logits = depth_logits(model, states.flatten(0, 1), torch.randint(0, 30, (18, 4)))
    (logits.square().sum() + model.codebook0_head(states).square().sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
