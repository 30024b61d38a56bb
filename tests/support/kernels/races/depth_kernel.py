"""The depth decoder's cooperative launch under the race checker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from csm_engine.execution.depth_weights import DepthWeights
from csm_engine.execution.ops.depth import frame_kernels
from csm_engine.execution.ops.depth.depth_launches import WARPS, DepthKernel, Drawing, is_asked_for
from csm_engine.execution.ops.depth.depth_shape import DepthShape
from csm_engine.execution.sampler import SamplingRows
from csm_engine.model.shapes import ModelConfig
from tests.support.kernels.races.accesses import Accesses
from tests.support.kernels.races.turns import Choose, run_in_turns

WRITTEN = (
    "x",
    "square",
    "qkv",
    "attended",
    "inner",
    "logits",
    "part",
    "arrivals",
    "keys",
    "values",
    "codes",
    "counter",
)
ORDERED = ("part", "arrivals")  # shared between two barriers by those that count
_WHOLE = 2**16  # more inputs than any product has


def weights_without_values(config: ModelConfig, dtype: torch.dtype) -> DepthWeights:
    """Memory that is never touched, for launches that are run without values."""
    stack = config.depth_decoder
    layers, dim, ffn, attended = stack.num_layers, stack.dim, stack.ffn_dim, stack.num_heads * stack.head_dim
    others = config.num_codebooks - 1

    def empty(*size: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype)

    return DepthWeights(
        config,
        qkv=empty(layers, attended + 2 * stack.num_kv_heads * stack.head_dim, dim),
        out=empty(layers, dim, attended),
        gate_up=empty(layers, 2 * ffn, dim),
        down=empty(layers, dim, ffn),
        scales=empty(1, 1, dtype=torch.float32),
        heads=empty(others, config.audio_vocab_size, dim),
        table=empty(others * config.audio_vocab_size, dim),
        rope=empty(stack.max_seq_len, stack.head_dim // 2, 2, dtype=torch.float32),
    )


def drawing_of(rows: int, codebooks: int) -> Drawing:
    sampling = SamplingRows(torch.ones(rows), torch.full((rows,), 5), torch.arange(rows))
    return Drawing(sampling, torch.arange(rows).flip(0), torch.arange(rows), torch.zeros(rows, codebooks).long())


def as_on_a_gpu(shape: DepthShape, weights: DepthWeights) -> DepthShape:
    """Asks for weights ahead, where they are large enough. A product's inputs are one step: that changes no address."""
    asking = 32 * WARPS if is_asked_for(weights) else 0
    cuts = shape.cuts
    whole = {name: replace(getattr(cuts, name), width=_WHOLE) for name in ("narrow", "added", "gated")}
    return replace(shape, wide=False, asking=asking, cuts=replace(cuts, **whole))


def checked_frame(
    kernel: DepthKernel, first: torch.Tensor, fed: torch.Tensor, drawing: Drawing, choose: Choose, *,
    shape: DepthShape | None = None, values: bool = True, entry: Any = frame_kernels.depth_frame_kernel,
) -> Accesses:  # fmt: skip
    """Runs a frame. shape: that of the kernel by default; values: see `run_in_turns`; entry: the kernel to launch."""
    tensors = (*kernel._arguments(first, fed, drawing), kernel._counter)
    buffers = dict(zip(entry.arg_names, tensors, strict=False))
    assert list(buffers)[-1] == "counter"
    accesses = Accesses(kernel.programs, buffers, written=WRITTEN, ordered=ORDERED)
    constants = {"rows": len(first), "S": shape or kernel.shape(len(first))}
    run_in_turns(entry, kernel.programs, buffers | constants, accesses, choose, values=values)
    accesses.finish()
    return accesses
