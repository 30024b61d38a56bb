"""The sizes of benchmarked models, and the least number of bytes that a frame of each must read."""

from __future__ import annotations

from dataclasses import replace

from csm_engine.model.shapes import FLAVORS, ModelConfig, TransformerConfig
from tests.support.tiny.csm import TINY_BUNDLE

CSM_1B = ModelConfig(
    backbone=FLAVORS["llama-1B"],
    depth_decoder=FLAVORS["llama-100M"],
    text_vocab_size=128_256,
    audio_vocab_size=2051,
    num_codebooks=32,
    codebook_size=2048,
)
SHAPES = {
    "tiny": TINY_BUNDLE,
    # That of bundles/builtin.
    "builtin-voice": ModelConfig(
        backbone=TransformerConfig(num_layers=6, dim=384, num_heads=6, num_kv_heads=2, ffn_dim=896),
        depth_decoder=TransformerConfig(num_layers=3, dim=192, num_heads=3, num_kv_heads=1, ffn_dim=512),
        text_vocab_size=96,
        audio_vocab_size=1027,
        num_codebooks=8,
        codebook_size=1024,
    ),
    # The true widths with fewer layers and a small text table, which fits a laptop.
    "csm-1b-shallow": replace(
        CSM_1B,
        backbone=replace(CSM_1B.backbone, num_layers=2),
        depth_decoder=replace(CSM_1B.depth_decoder, num_layers=1),
        text_vocab_size=320,
    ),
    "csm-1b": CSM_1B,
}


def layer_parameters(stack: TransformerConfig) -> int:
    """The number of parameters in one layer's matrices."""
    attention = 2 * stack.dim * stack.dim + 2 * stack.dim * stack.num_kv_heads * stack.head_dim
    return attention + 3 * stack.dim * stack.ffn_dim


def frame_bytes(config: ModelConfig, *, batch: int, context: int, bytes_per_value: int) -> int:
    """Bytes that one frame step must read: each weight once for every pass that depends on the one before, and the KV
    cache. The depth decoder has K - 1 passes: the hidden state's position shares one with codebook 0.
    """
    backbone = layer_parameters(config.backbone) * config.backbone.num_layers
    depth = layer_parameters(config.depth_decoder) * config.depth_decoder.num_layers * (config.num_codebooks - 1)
    heads = config.audio_vocab_size * (config.backbone.dim + (config.num_codebooks - 1) * config.depth_decoder.dim)
    cache = 2 * config.backbone.num_layers * config.backbone.num_kv_heads * config.backbone.head_dim * context * batch
    return (backbone + depth + heads + cache) * bytes_per_value
