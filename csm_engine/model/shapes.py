"""The model's shapes, read from a checkpoint's config.json and validated.

`ModelConfig.from_json` understands three dialects of a checkpoint's config.json: Sesame's flavors, the transformers
library's `CsmConfig`, and explicit shapes (for bundles of other sizes). It reads no weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csm_bundle.errors import CheckpointError

SPECIAL_AUDIO_TOKENS = 3  # audio ids past the codebook: the published 2051 = 2048 codes + 3 that no codec can decode


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """One Llama 3.2 stack. Rotary scaling follows Llama 3 (low/high frequency factors 1 and 4 of 8192 positions)."""

    num_layers: int
    dim: int
    num_heads: int
    num_kv_heads: int
    ffn_dim: int
    max_seq_len: int = 2048
    norm_eps: float = 1e-5
    rope_base: int = 500_000
    rope_scale_factor: int = 32

    def __post_init__(self) -> None:
        for name in ("num_layers", "dim", "num_heads", "num_kv_heads", "ffn_dim", "max_seq_len"):
            if getattr(self, name) < 1:
                raise CheckpointError(f"config: {name} is {getattr(self, name)}; it must be at least 1")
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise CheckpointError(
                f"config: dim {self.dim} must be num_heads {self.num_heads} times an even head dimension"
            )
        if self.num_heads % self.num_kv_heads:
            raise CheckpointError(
                f"config: num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


FLAVORS = {  # the published shapes, github.com/SesameAILabs/csm models.py
    "llama-1B": TransformerConfig(num_layers=16, dim=2048, num_heads=32, num_kv_heads=8, ffn_dim=8192),
    "llama-100M": TransformerConfig(num_layers=4, dim=1024, num_heads=8, num_kv_heads=2, ffn_dim=8192),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All shapes of one CSM checkpoint."""

    backbone: TransformerConfig
    depth_decoder: TransformerConfig
    text_vocab_size: int
    audio_vocab_size: int
    num_codebooks: int
    codebook_size: int  # codes that the codec can decode; the sampler draws no id beyond them

    def __post_init__(self) -> None:
        if self.num_codebooks < 2:
            raise CheckpointError(f"config: {self.num_codebooks} codebooks; at least 2 are needed")
        if self.depth_decoder.max_seq_len < self.num_codebooks:
            raise CheckpointError(
                f"config: depth decoder window {self.depth_decoder.max_seq_len} is shorter than"
                f" {self.num_codebooks} codebooks"
            )
        if not 0 < self.codebook_size <= self.audio_vocab_size:
            raise CheckpointError(
                f"config: codebook_size {self.codebook_size} must be 1..{self.audio_vocab_size} (the audio vocabulary)"
            )

    @property
    def max_seq_len(self) -> int:
        return self.backbone.max_seq_len

    @classmethod
    def from_json(cls, path: Path) -> ModelConfig:
        """Reads a checkpoint's config.json.

        Raises: CheckpointError naming the file and the key that is missing or not understood.
        """
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError:
            raise CheckpointError(f"{path}: not found; a checkpoint needs its config.json") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{path}: is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise CheckpointError(f"{path}: is not a JSON object")
        try:
            if "backbone_flavor" in values:
                return _from_flavors(values)
            if values.get("model_type") == "csm":
                return _from_transformers(values)
            return _from_shapes(values)
        except KeyError as error:
            raise CheckpointError(f"{path}: key {error} is missing") from None
        except (AttributeError, TypeError, ValueError, ZeroDivisionError, CheckpointError) as error:
            raise CheckpointError(f"{path}: {error}") from None


def _codebook_size(values: dict[str, Any], audio_vocab_size: int) -> int:
    return int(values.get("audio_codebook_size", audio_vocab_size - SPECIAL_AUDIO_TOKENS))


def _from_flavors(values: dict[str, Any]) -> ModelConfig:
    for key in ("backbone_flavor", "decoder_flavor"):
        if values[key] not in FLAVORS:
            raise CheckpointError(f"{key} is {values[key]!r}; known flavors are {', '.join(FLAVORS)}")
    return ModelConfig(
        backbone=FLAVORS[values["backbone_flavor"]],
        depth_decoder=FLAVORS[values["decoder_flavor"]],
        text_vocab_size=int(values["text_vocab_size"]),
        audio_vocab_size=int(values["audio_vocab_size"]),
        num_codebooks=int(values["audio_num_codebooks"]),
        codebook_size=_codebook_size(values, int(values["audio_vocab_size"])),
    )


def _from_shapes(values: dict[str, Any]) -> ModelConfig:
    return ModelConfig(
        backbone=TransformerConfig(**values["backbone"]),
        depth_decoder=TransformerConfig(**values["depth_decoder"]),
        text_vocab_size=int(values["text_vocab_size"]),
        audio_vocab_size=int(values["audio_vocab_size"]),
        num_codebooks=int(values["audio_num_codebooks"]),
        codebook_size=_codebook_size(values, int(values["audio_vocab_size"])),
    )


def _from_transformers(values: dict[str, Any]) -> ModelConfig:
    depth = values["depth_decoder_config"]
    return ModelConfig(
        backbone=_transformers_stack(values),
        depth_decoder=_transformers_stack(depth),
        text_vocab_size=int(values["text_vocab_size"]),
        audio_vocab_size=int(values["vocab_size"]),
        num_codebooks=int(values["num_codebooks"]),
        codebook_size=_codebook_size(values, int(values["vocab_size"])),
    )


def _transformers_stack(values: dict[str, Any]) -> TransformerConfig:
    base, factor = _transformers_rope(values)
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    if head_dim * values["num_attention_heads"] != values["hidden_size"]:
        raise CheckpointError(
            f"head_dim {head_dim} x {values['num_attention_heads']} heads is not hidden_size {values['hidden_size']}"
        )
    return TransformerConfig(
        num_layers=values["num_hidden_layers"],
        dim=values["hidden_size"],
        num_heads=values["num_attention_heads"],
        num_kv_heads=values["num_key_value_heads"],
        ffn_dim=values["intermediate_size"],
        max_seq_len=values["max_position_embeddings"],
        norm_eps=values["rms_norm_eps"],
        rope_base=base,
        rope_scale_factor=factor,
    )


def _transformers_rope(values: dict[str, Any]) -> tuple[int, int]:
    """Base and factor. Refuses wavelength limits other than 8192 and 2048 positions, which torchtune fixes."""
    rope = values.get("rope_parameters") or values["rope_scaling"]
    base = rope.get("rope_theta", values.get("rope_theta"))
    if rope.get("rope_type") != "llama3" or base is None:
        raise CheckpointError(f"rope parameters {rope!r} are not of type llama3 with a rope_theta")
    window = rope["original_max_position_embeddings"]
    wavelengths = (window / rope["low_freq_factor"], window / rope["high_freq_factor"])
    if wavelengths != (8192, 2048):
        raise CheckpointError(f"rope wavelength limits {wavelengths} are not supported; they must be (8192, 2048)")
    return int(base), int(rope["factor"])
