"""The key names of the two published checkpoint layouts, as tables. No torch.

`original`: Sesame's own (`ckpt.pt`, `model.safetensors`). `transformers`: the transformers library's, where rows of
q and k are permuted, because its rotary embedding rotates half-splits instead of neighbouring pairs.
Source: transformers/models/csm/convert_csm.py and github.com/SesameAILabs/csm models.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from csm_engine.model.shapes import ModelConfig


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Where one of our parameters comes from. heads > 0: rows are permuted per head in the file."""

    ours: str
    theirs: str
    heads: int = 0


_ORIGINAL_TOP = {
    "text_embeddings.weight": "text_embeddings.weight",
    "audio_embeddings.weight": "audio_embeddings.weight",
    "projection.weight": "projection.weight",
    "codebook0_head.weight": "codebook0_head.weight",
    "audio_head": "audio_head",
}
_TRANSFORMERS_TOP = {
    "text_embeddings.weight": "embed_text_tokens.weight",
    "audio_embeddings.weight": "backbone_model.embed_tokens.embed_audio_tokens.weight",
    "projection.weight": "depth_decoder.model.inputs_embeds_projector.weight",
    "codebook0_head.weight": "lm_head.weight",
    "audio_head": "depth_decoder.codebooks_head.weight",
}
_TRANSFORMERS_LAYER = {
    "attn.q_proj.weight": "self_attn.q_proj.weight",
    "attn.k_proj.weight": "self_attn.k_proj.weight",
    "attn.v_proj.weight": "self_attn.v_proj.weight",
    "attn.output_proj.weight": "self_attn.o_proj.weight",
    "mlp.w1.weight": "mlp.gate_proj.weight",
    "mlp.w2.weight": "mlp.down_proj.weight",
    "mlp.w3.weight": "mlp.up_proj.weight",
    "sa_norm.scale": "input_layernorm.weight",
    "mlp_norm.scale": "post_attention_layernorm.weight",
}

# In a transformers checkpoint but not ours: the tied copy of the audio embeddings, and the codec.
TIED_AUDIO_EMBEDDINGS = "depth_decoder.model.embed_tokens.weight"
CODEC_PREFIX = "codec_model."


def original_keys(config: ModelConfig) -> list[KeyMap]:
    """Every parameter in Sesame's layout; only the depth decoder is named otherwise."""
    maps = [KeyMap(ours, theirs) for ours, theirs in _ORIGINAL_TOP.items()]
    for ours, theirs, stack in (
        ("backbone", "backbone", config.backbone),
        ("depth_decoder", "decoder", config.depth_decoder),
    ):
        maps.append(KeyMap(f"{ours}.norm.scale", f"{theirs}.norm.scale"))
        maps += [
            KeyMap(f"{ours}.layers.{index}.{name}", f"{theirs}.layers.{index}.{name}")
            for index in range(stack.num_layers)
            for name in _TRANSFORMERS_LAYER
        ]
    return maps


def transformers_keys(config: ModelConfig) -> list[KeyMap]:
    """Every parameter in the transformers layout."""
    maps = [KeyMap(ours, theirs) for ours, theirs in _TRANSFORMERS_TOP.items()]
    for ours, theirs, stack in (
        ("backbone", "backbone_model", config.backbone),
        ("depth_decoder", "depth_decoder.model", config.depth_decoder),
    ):
        permuted = {"attn.q_proj.weight": stack.num_heads, "attn.k_proj.weight": stack.num_kv_heads}
        maps.append(KeyMap(f"{ours}.norm.scale", f"{theirs}.norm.weight"))
        maps += [
            KeyMap(
                f"{ours}.layers.{i}.{name}",
                f"{theirs}.layers.{i}.{their_name}",
                permuted.get(name, 0),
            )
            for i in range(stack.num_layers)
            for name, their_name in _TRANSFORMERS_LAYER.items()
        ]
    return maps


def is_transformers_layout(keys: list[str]) -> bool:
    return any(key.startswith("backbone_model.") for key in keys)
