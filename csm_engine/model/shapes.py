"""The model's shapes, read from a checkpoint's config.json and validated.

`ModelConfig.from_json` understands three dialects of a checkpoint's config.json: Sesame's flavors, the transformers
library's `CsmConfig`, and explicit shapes (for bundles of other sizes). It reads no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from csm_bundle.checked_json import Positive, first_problem, needed, read_config, refuse
from csm_bundle.errors import CheckpointError

SPECIAL_AUDIO_TOKENS = 3  # audio ids past the codebook: the published 2051 = 2048 codes + 3 that no codec can decode


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """One Llama 3.2 stack. Rotary scaling follows Llama 3 (low/high frequency factors 1 and 4 of 8192 positions)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_layers: Positive
    dim: Positive
    num_heads: Positive
    num_kv_heads: Positive
    ffn_dim: Positive
    max_seq_len: Positive = 2048
    norm_eps: float = 1e-5
    rope_base: int = 500_000
    rope_scale_factor: int = 32

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise CheckpointError(f"dim {self.dim} must be num_heads {self.num_heads} times an even head dimension")
        if self.num_heads % self.num_kv_heads:
            raise CheckpointError(f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


FLAVORS = {  # the published shapes, github.com/SesameAILabs/csm models.py
    "llama-1B": TransformerConfig(num_layers=16, dim=2048, num_heads=32, num_kv_heads=8, ffn_dim=8192),
    "llama-100M": TransformerConfig(num_layers=4, dim=1024, num_heads=8, num_kv_heads=2, ffn_dim=8192),
}
_Stack = Annotated[
    TransformerConfig,
    BeforeValidator(lambda stack: FLAVORS.get(str(stack), stack)),
    needed(f"known flavors are {', '.join(FLAVORS)}"),
]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All shapes of one CSM checkpoint. Aliases are the keys of Sesame's config.json and of explicit shapes."""

    backbone: Annotated[_Stack, Field(validation_alias=AliasChoices("backbone_flavor", "backbone"))]
    depth_decoder: Annotated[_Stack, Field(validation_alias=AliasChoices("decoder_flavor", "depth_decoder"))]
    text_vocab_size: Positive
    audio_vocab_size: Positive
    num_codebooks: Annotated[Positive, Field(validation_alias="audio_num_codebooks")]
    codebook_size: Annotated[  # codes that the codec can decode; the sampler draws no id beyond them
        Positive,
        Field(
            validation_alias="audio_codebook_size",
            default_factory=lambda values: values["audio_vocab_size"] - SPECIAL_AUDIO_TOKENS,
        ),
    ]

    def __post_init__(self) -> None:
        if self.num_codebooks < 2:
            raise CheckpointError(f"{self.num_codebooks} codebooks; at least 2 are needed")
        if (window := self.depth_decoder.max_seq_len) < self.num_codebooks:
            raise CheckpointError(f"depth decoder window {window} is shorter than {self.num_codebooks} codebooks")
        if not 0 < self.codebook_size <= self.audio_vocab_size:
            raise CheckpointError(
                f"codebook_size {self.codebook_size} must be 1..{self.audio_vocab_size} (the audio vocabulary)"
            )

    @property
    def max_seq_len(self) -> int:
        return self.backbone.max_seq_len

    @classmethod
    def from_json(cls, path: Path) -> ModelConfig:
        """Reads a checkpoint's config.json.

        Raises: CheckpointError naming the file and the key that is missing or not understood.
        """
        values = read_config(path)
        try:
            # The published file has the keys of both dialects.
            if values.get("model_type") == "csm" and "backbone_flavor" not in values:
                return _TransformersFile.model_validate(values).shapes()
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise CheckpointError(f"{path}: {first_problem(error)}") from None
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None


def _rope(key: str) -> Any:
    """Where versions of the library write a parameter of the rotary embedding."""
    parents = ("rope_parameters", "rope_scaling")
    return Field(validation_alias=AliasChoices(*(AliasPath(parent, key) for parent in parents), key))


class _TransformersStack(BaseModel):
    """One stack in a config.json of the transformers library, whose keys are the aliases."""

    num_layers: Positive = Field(validation_alias="num_hidden_layers")
    dim: Positive = Field(validation_alias="hidden_size")
    num_heads: Positive = Field(validation_alias="num_attention_heads")
    num_kv_heads: Positive = Field(validation_alias="num_key_value_heads")
    ffn_dim: Positive = Field(validation_alias="intermediate_size")
    max_seq_len: Positive = Field(validation_alias="max_position_embeddings")
    norm_eps: float = Field(validation_alias="rms_norm_eps")
    head_dim: Positive | None = None
    rope_base: int = _rope("rope_theta")
    rope_scale_factor: int = _rope("factor")
    rope_type: Annotated[Literal["llama3"], needed("only llama3 is supported")] = _rope("rope_type")
    rope_window: Positive = _rope("original_max_position_embeddings")
    rope_low_factor: float = _rope("low_freq_factor")
    rope_high_factor: float = _rope("high_freq_factor")

    @model_validator(mode="after")
    def _as_torchtune_has_it(self) -> _TransformersStack:
        if self.head_dim and self.head_dim * self.num_heads != self.dim:
            rule = f"hidden_size {self.dim} over {self.num_heads} heads is needed"
            raise refuse(rule, "head_dim", given=self.head_dim)
        if self.rope_window != 8192 * self.rope_low_factor or self.rope_window != 2048 * self.rope_high_factor:
            rule = "rope wavelength limits of 8192 and 2048 positions are needed"
            raise refuse(rule, "original_max_position_embeddings", given=self.rope_window)
        return self

    def stack(self) -> TransformerConfig:
        """Raises: CheckpointError."""
        return TransformerConfig(**self.model_dump(include={field.name for field in fields(TransformerConfig)}))


class _TransformersFile(_TransformersStack):
    """config.json of the transformers library: the backbone's stack at the top level, the other one below."""

    text_vocab_size: Positive
    vocab_size: Positive
    num_codebooks: Positive
    audio_codebook_size: Positive | None = None
    depth_decoder_config: _TransformersStack

    def shapes(self) -> ModelConfig:
        """Raises: CheckpointError."""
        return ModelConfig(
            backbone=self.stack(),
            depth_decoder=self.depth_decoder_config.stack(),
            text_vocab_size=self.text_vocab_size,
            audio_vocab_size=self.vocab_size,
            num_codebooks=self.num_codebooks,
            codebook_size=self.audio_codebook_size or self.vocab_size - SPECIAL_AUDIO_TOKENS,
        )
