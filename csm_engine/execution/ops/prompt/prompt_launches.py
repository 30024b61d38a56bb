"""Launches of the kernels of a prefill pass: names, shapes and results as in torch_ops.py. Importing needs triton."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import next_power_of_2

from csm_engine.execution.ops import triton_ops
from csm_engine.execution.ops.prompt.prompt_kernels import embed_kernel, prompt_attention_kernel, write_rows_kernel
from csm_engine.execution.ops.tile_shapes import PROMPT, PromptShape
from csm_engine.scheduling.buckets import PROMPT_TILE

_EMBED_BLOCK = 512  # elements of an embedding that one program sums


def embed(ids: Tensor, audio_embeddings: Tensor, text_embeddings: Tensor, audio_vocab_size: int) -> Tensor:
    """ids: (K + 1, T) int64, -1 where masked -> (T, D), summed in float32."""
    (fields, rows), width = ids.shape, audio_embeddings.shape[1]
    out = audio_embeddings.new_empty(rows, width)
    block = min(_EMBED_BLOCK, next_power_of_2(width))
    embed_kernel[(rows, -(-width // block))](
        ids, audio_embeddings, text_embeddings, out, rows, audio_vocab_size,
        CODEBOOKS=fields - 1, WIDTH=width, BLOCK=block, **triton_ops.launch_options(),
    )  # fmt: skip
    return out


def write_rows(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, rope: Tensor, num_heads: int
) -> None:
    """qkv: (T, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (T,) int64."""
    max_positions, num_kv_heads, head_dim = keys.shape[1:]
    write_rows_kernel[(len(qkv),)](
        qkv, keys, values, slots, positions, rope, max_positions,
        HEADS=num_heads, KV_HEADS=num_kv_heads, HEAD_DIM=head_dim, KV_BLOCK=next_power_of_2(num_kv_heads),
        **triton_ops.launch_options(),
    )  # fmt: skip


def prompt_attention(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    positions: Tensor,
    rope: Tensor,
    num_heads: int,
    *,
    shape: PromptShape = PROMPT,
) -> Tensor:
    """Shapes as in write_rows -> (T, H E). The rows of a slot begin at a multiple of PROMPT_TILE."""
    rows, (max_positions, num_kv_heads, head_dim) = len(qkv), keys.shape[1:]
    out = torch.empty(rows, num_heads * head_dim, device=qkv.device, dtype=qkv.dtype)
    wide = qkv.element_size() // 2  # twice the registers in float32
    prompt_attention_kernel[(-(-rows // PROMPT_TILE), num_kv_heads)](
        qkv, keys, values, slots, positions, rope, out, rows, max_positions, head_dim**-0.5,
        HEADS=num_heads, KV_HEADS=num_kv_heads, HEAD_DIM=head_dim,
        MEMBERS=next_power_of_2(num_heads // num_kv_heads), TILE=PROMPT_TILE, BLOCK=shape.block // wide,
        WIDE=not qkv.is_cuda, num_warps=shape.warps * wide, num_stages=shape.stages, **triton_ops.launch_options(),
    )  # fmt: skip
    return out
