"""The weights of a small model for the compiled kernels of a CPU: the depth decoder's, with its layers stacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csm_bundle.runtime.panels import LANES
from csm_engine.model.shapes import ModelConfig

MOST_PARAMETERS = 2**26  # of all layers. Torch shares even a single row between threads, which pays for larger models

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CpuWeights:
    """L layers; d, F: widths; H, G: query and key heads; E: head dimension; K: codebooks; V: audio vocabulary. Matrices
    are in panels (panels.py), inputs before outputs.
    """

    qkv: Floats  # L of d to (H + 2 G) E
    out: Floats  # L of H E to d
    gate_up: Floats  # L of d to 2 F
    down: Floats  # L of F to d
    attention_norms: Floats  # (L, d)
    mlp_norms: Floats  # (L, d)
    norm: Floats  # (d,)
    heads: Floats  # K - 1 of d to V
    inputs: Floats  # ((K - 1) V, d), the depth decoder's input for a code
    rope: Floats  # (positions, E / 2, 2)


def is_for_kernels(config: ModelConfig, like: Tensor) -> bool:
    """Whether the kernels take a model of these sizes and run it faster than torch. like: one of its weights."""
    stacks = (config.backbone, config.depth_decoder)
    size = sum(stack.num_layers * (2 * stack.dim * stack.dim + 3 * stack.dim * stack.ffn_dim) for stack in stacks)
    fits = size <= MOST_PARAMETERS and config.num_codebooks > 1 and config.backbone.max_seq_len >= LANES
    fits = fits and all(stack.head_dim % LANES == 0 for stack in stacks)
    return fits and like.device.type == "cpu" and like.dtype is torch.float32
