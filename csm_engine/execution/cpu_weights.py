"""The weights of a small model as the compiled kernels of a CPU read them: inputs before outputs, layers stacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csm_engine.model.csm import CSM, Stack
from csm_engine.model.rope import rope_table
from csm_engine.model.shapes import ModelConfig, TransformerConfig

MOST_PARAMETERS = 2**26  # of all layers. Torch shares even a single row between threads, which pays for larger models
WIDTH_MULTIPLE = 4  # inputs of a product, which the kernels take at once

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CpuStack:
    """L layers. D, F: widths; H, G: query and key heads; E: head dimension."""

    qkv: Floats  # (L, D, (H + 2 G) E)
    out: Floats  # (L, H E, D)
    gate_up: Floats  # (L, D, 2 F)
    down: Floats  # (L, F, D)
    attention_norms: Floats  # (L, D)
    mlp_norms: Floats  # (L, D)
    norm: Floats  # (D,)
    rope: Floats  # (positions, E / 2, 2)
    eps: float
    num_kv_heads: int

    @classmethod
    def of(cls, stack: Stack, config: TransformerConfig) -> CpuStack:
        attentions, mlps = [layer.attn for layer in stack.layers], [layer.mlp for layer in stack.layers]
        qkv = [torch.cat([part.weight for part in (a.q_proj, a.k_proj, a.v_proj)]) for a in attentions]
        return cls(
            qkv=_stacked([one.t() for one in qkv]),
            out=_stacked([attention.output_proj.weight.t() for attention in attentions]),
            gate_up=_stacked([torch.cat([mlp.w1.weight, mlp.w3.weight]).t() for mlp in mlps]),
            down=_stacked([mlp.w2.weight.t() for mlp in mlps]),
            attention_norms=_stacked([layer.sa_norm.scale for layer in stack.layers]),
            mlp_norms=_stacked([layer.mlp_norm.scale for layer in stack.layers]),
            norm=stack.norm.scale.numpy(),
            rope=rope_table(config, stack.norm.scale.device).numpy(),
            eps=config.norm_eps,
            num_kv_heads=config.num_kv_heads,
        )


@dataclass(frozen=True, slots=True)
class CpuWeights:
    """d: width of the depth decoder; K: codebooks; V: codes; R: audio vocabulary."""

    backbone: CpuStack
    depth_decoder: CpuStack
    depth_heads: Floats  # (K - 1, d, V)
    depth_inputs: Floats  # ((K - 1) R, d), the depth decoder's input for a code


def is_for_kernels(config: ModelConfig, like: Tensor) -> bool:
    """Whether the kernels take a model of these sizes and run it faster than torch. like: one of its weights."""
    stacks = (config.backbone, config.depth_decoder)
    widths = [width for stack in stacks for width in (stack.dim, stack.ffn_dim, stack.num_heads * stack.head_dim)]
    size = sum(stack.num_layers * (2 * stack.dim * stack.dim + 3 * stack.dim * stack.ffn_dim) for stack in stacks)
    fits = size <= MOST_PARAMETERS and all(width % WIDTH_MULTIPLE == 0 for width in widths)
    return fits and like.device.type == "cpu" and like.dtype is torch.float32 and config.num_codebooks > 1


def cpu_weights(model: CSM, depth_inputs: Tensor) -> CpuWeights:
    """model: one that `is_for_kernels`, whose weights are copied."""
    return CpuWeights(
        backbone=CpuStack.of(model.backbone, model.config.backbone),
        depth_decoder=CpuStack.of(model.depth_decoder, model.config.depth_decoder),
        depth_heads=np.ascontiguousarray(model.audio_head[:, :, : model.config.codebook_size].numpy()),
        depth_inputs=depth_inputs.numpy(),
    )


def _stacked(parts: list[Tensor]) -> Floats:
    stacked: Floats = torch.stack(parts).numpy()
    return stacked
