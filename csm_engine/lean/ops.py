"""The fast step's operations: Triton where the tensors are on a CUDA device, plain torch elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.lean import ops_torch
from csm_engine.lean.weights import LeanLayer, LeanStack

rms_norm = ops_torch.rms_norm
backbone_attention = ops_torch.backbone_attention
depth_attention = ops_torch.depth_attention


def finish_layer(x: Tensor, attended: Tensor, layer: LeanLayer, eps: float) -> Tensor:
    """Output projection, residual, MLP, residual. x: (B, D); attended: (B, H E) -> (B, D)."""
    x = torch.addmm(x, attended, layer.out.t())
    gate_up = F.linear(rms_norm(x, layer.mlp_norm, eps), layer.gate_up)
    return torch.addmm(x, ops_torch.silu_mul(gate_up), layer.down.t())


def write_prompt(qkv: Tensor, keys: Tensor, values: Tensor, start: int, stack: LeanStack) -> Tensor:
    """Writes T positions of one slot and returns their queries.

    qkv: (T, (H + 2 G) E); keys, values: (L, G, E) of the slot -> (T, H, E).
    """
    config, end = stack.config, start + len(qkv)
    heads = qkv.view(len(qkv), -1, config.head_dim)
    turned = ops_torch.rotate(heads[:, : config.num_heads + config.num_kv_heads], stack.rope[start:end])
    keys[start:end] = turned[:, config.num_heads :]
    values[start:end] = heads[:, config.num_heads + config.num_kv_heads :]
    return turned[:, : config.num_heads]


@dataclass(frozen=True)
class FrameDraw:
    """How the rows of one frame are drawn: seed, frame, top_k: (B,) int64; temperature: (B,) float32."""

    seed: Tensor
    frame: Tensor
    temperature: Tensor
    top_k: Tensor
    num_codebooks: int
    codebook_size: int

    def sample(self, logits: Tensor, codebook: int) -> Tensor:
        """logits: (B, V) of one codebook -> (B,) int64 codes."""
        return ops_torch.sample(logits, self._noise, codebook, self.temperature, self.top_k)

    @cached_property
    def _noise(self) -> Tensor:
        return ops_torch.frame_noise(self.seed, self.frame, self.num_codebooks, self.codebook_size)
