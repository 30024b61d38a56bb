"""The fast step's operations: Triton where the tensors are on a CUDA device, plain torch elsewhere."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_bundle.runtime.packed_linear import packed_linear
from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import torch_ops
from csm_engine.execution.ops.prefetch.launch_prefetch import NO_PREFETCH, Prefetch
from csm_engine.execution.ops.tile_shapes import is_faster
from csm_engine.execution.sampling import Drawing, SamplingRows
from csm_engine.execution.slot_state import SlotRows, SlotState
from csm_engine.execution.weights import PackedLayer, PackedStack

if TYPE_CHECKING:
    from csm_engine.execution.ops.cpu.cpu_frame import CpuDraw

FUSED_ROWS = 1024  # with more rows cuBLAS is faster
_INT8_WIDTH = 16  # the CPU's int8 product needs a multiple of this many inputs
_INT8_ROWS = 48  # with more rows it is faster on a CPU to convert the matrix first


def _ops(x: Tensor) -> ModuleType:
    if not x.is_cuda:
        return torch_ops
    from csm_engine.execution.ops import triton_ops  # triton comes with CUDA builds of torch only

    return triton_ops


def _cpu_frame() -> ModuleType:
    from csm_engine.execution.ops.cpu import cpu_frame  # needs numba, which other models do not

    return cpu_frame


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x: (B, D); weight: (D,), None is one -> (B, D)."""
    normed: Tensor = _ops(x).rms_norm(x, weight, eps)
    return normed


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """x: (B, K); matrix: (N, K) -> (B, N)."""
    if _is_fused(x, matrix):
        return _product(x, matrix)
    return _unfused(x, matrix)


def _unfused(x: Tensor, matrix: Matrix) -> Tensor:
    values, scale = matrix.values, matrix.scale
    if matrix.layout == "panels":
        from csm_bundle.runtime.panel_product import panel_linear  # needs numba, which other models do not

        return panel_linear(x, values, matrix.outputs)
    if matrix.layout == "onednn":
        return packed_linear(x, values)
    if scale is None:
        return F.linear(x, values)
    if _is_for_int8_product(x, values):
        return torch._weight_int8pack_mm(x, values, scale.bfloat16())
    return (F.linear(x, values.to(x.dtype)).float() * scale).to(x.dtype)


def _is_for_int8_product(x: Tensor, values: Tensor) -> bool:
    """Whether torch has a CPU product for these sizes. It reads out of bounds at widths that it does not support."""
    known = values.dtype is torch.int8 and x.dtype is torch.bfloat16 and not x.is_cuda
    known = known and hasattr(torch, "_weight_int8pack_mm")  # private: another release of torch may lack it
    return known and len(x) <= _INT8_ROWS and x.shape[1] % _INT8_WIDTH == 0


def norm_linear(x: Tensor, norm: Tensor | None, matrix: Matrix, eps: float, prefetch: Prefetch = NO_PREFETCH) -> Tensor:
    """x: (B, K), normed first; norm: (K,), None where its weights are in the matrix -> (B, N).

    prefetch: here and below, what the fused kernel prefetches into the L2 cache for later launches.
    """
    if norm is None and _is_fused(x, matrix):
        return _product(x, matrix, norm=True, eps=eps, prefetch=prefetch)
    return linear(rms_norm(x, norm, eps), matrix)


def norm_gated(x: Tensor, norm: Tensor | None, matrix: Matrix, eps: float, prefetch: Prefetch = NO_PREFETCH) -> Tensor:
    """x: (B, K), normed first; norm: as in norm_linear; matrix: (2 F, K), gate before up -> (B, F)."""
    if norm is None and _is_fused(x, matrix, gated=True):
        return _product(x, matrix, norm=True, eps=eps, gated=True, prefetch=prefetch)
    gated: Tensor = _ops(x).silu_mul(linear(rms_norm(x, norm, eps), matrix))
    return gated


def add_linear(x: Tensor, y: Tensor, matrix: Matrix, prefetch: Prefetch = NO_PREFETCH) -> Tensor:
    """x: (B, N), changed in place; y: (B, K) -> x."""
    if _is_fused(y, matrix):
        return _product(y, matrix, added=x, prefetch=prefetch)
    if matrix.layout != "rows" or matrix.scale is not None:
        return x.add_(linear(y, matrix))
    return x.addmm_(y, matrix.values.t())


def _is_fused(x: Tensor, matrix: Matrix, *, gated: bool = False) -> bool:
    rows, width = x.shape
    if not x.is_cuda or not matrix.fused or rows > FUSED_ROWS:
        return False
    outputs = len(matrix.values) // (2 if gated else 1)
    size = matrix.values.element_size()
    return not matrix.where_faster or is_faster(outputs, width, rows, gated=gated, weight_bytes=size)


def _product(x: Tensor, matrix: Matrix, **around: Any) -> Tensor:
    from csm_engine.execution.ops import triton_ops

    return triton_ops.product(x, matrix, **around)


def backbone_attention(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, stack: PackedStack,
    prefetch: Prefetch = NO_PREFETCH,
) -> Tensor:  # fmt: skip
    """Writes one position of each row into the cache and attends over the slot up to it.

    qkv: (B, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (B,) int64 -> (B, H E).
    """
    num_heads = stack.config.num_heads
    prefetched = {"prefetch": prefetch} if qkv.is_cuda else {}
    attended: Tensor = _ops(qkv).backbone_attention(
        qkv, keys, values, slots, positions, stack.rope, num_heads, **prefetched
    )
    return attended


def depth_attention(qkv: Tensor, keys: Tensor, values: Tensor, position: int, stack: PackedStack) -> Tensor:
    """Writes one position of the current frame and attends up to it.

    qkv: (B, (H + 2 G) E); keys, values: (B, G, K, E) -> (B, H E).
    """
    attended: Tensor = _ops(qkv).depth_attention(qkv, keys, values, position, stack.rope, stack.config.num_heads)
    return attended


def depth_attention_of_two(qkv: Tensor, keys: Tensor, values: Tensor, stack: PackedStack) -> Tensor:
    """Positions 0 and 1 of the current frame. qkv: (2 B, (H + 2 G) E), those of position 0 first -> (2 B, H E)."""
    rows, num_heads = len(keys), stack.config.num_heads
    out = qkv.new_empty(2 * rows, num_heads * stack.config.head_dim)
    for position in (0, 1):
        here = slice(position * rows, (position + 1) * rows)
        _ops(qkv).depth_attention(qkv[here], keys, values, position, stack.rope, num_heads, out=out[here])
    return out


def finish_layer(
    x: Tensor,
    attended: Tensor,
    layer: PackedLayer,
    eps: float,
    of_gates: Prefetch = NO_PREFETCH,
    of_down: Prefetch = NO_PREFETCH,
) -> Tensor:
    """Output projection, residual, MLP, residual. x: (B, D), changed in place; attended: (B, H E) -> (B, D).

    of_gates, of_down: what the launches of these products prefetch.
    """
    add_linear(x, attended, layer.out)
    return add_linear(x, norm_gated(x, layer.mlp_norm, layer.gate_up, eps, of_gates), layer.down, of_down)


def embed(
    ids: Tensor, audio_embeddings: Tensor, text_embeddings: Tensor, audio_vocab_size: int, *, compiled: bool = False
) -> Tensor:
    """Sums the embeddings of each row's ids.

    ids: (K + 1, T) int64, -1 where masked; audio_embeddings: (K V, D); text_embeddings: (text vocabulary, D) -> (T, D).
    compiled: here and below, by a CPU's kernel.
    """
    if compiled:
        summed: Tensor = _cpu_frame().embed(ids.t(), audio_embeddings, text_embeddings, audio_vocab_size)
        return summed
    if not ids.is_cuda:
        return torch_ops.embed(ids, audio_embeddings, text_embeddings, audio_vocab_size)
    from csm_engine.execution.ops.prompt import prompt_launches

    return prompt_launches.embed(ids, audio_embeddings, text_embeddings, audio_vocab_size)


def write_rows(qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, stack: PackedStack) -> None:
    """Writes the keys and values of prompt rows.

    qkv: (T, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (T,) int64.
    """
    if not qkv.is_cuda:
        return torch_ops.write_rows(qkv, keys, values, slots, positions, stack.rope, stack.config.num_heads)
    from csm_engine.execution.ops.prompt import prompt_launches

    return prompt_launches.write_rows(qkv, keys, values, slots, positions, stack.rope, stack.config.num_heads)


def prompt_attention(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, stack: PackedStack
) -> Tensor:
    """Each row attends over its slot up to its position. Shapes as in write_rows, whose rows must be written
    -> (T, H E). Rows of a slot follow each other.
    """
    if not qkv.is_cuda:
        return torch_ops.prompt_attention(qkv, keys, values, slots, positions, stack.rope, stack.config.num_heads)
    from csm_engine.execution.ops.prompt import prompt_launches

    return prompt_launches.prompt_attention(qkv, keys, values, slots, positions, stack.rope, stack.config.num_heads)


def gather(state: SlotState, slots: Tensor) -> SlotRows:
    """slots: (B,) int64 -> the inputs of their frame."""
    if not slots.is_cuda:
        return state.gather(slots)
    from csm_engine.execution.ops import state_launches

    return state_launches.gather(state, slots)


def advance(
    state: SlotState, slots: Tensor, codes: Tensor, table: Tensor, vocab_size: int, *, compiled: bool = False
) -> Tensor:
    """Advances the rows by the frames just made; table: (K * vocab_size, D), the embeddings that are summed.

    slots: (B,) as gathered; codes: (B, K) int64 -> (B, K + 1) int16: the codes, and in the last column an Outcome.
    """
    if slots.is_cuda:
        from csm_engine.execution.ops import state_launches

        return state_launches.advance(state, slots, codes, table, vocab_size)
    if compiled:
        return state.advance(slots, codes, _cpu_frame().embed(codes, table, None, vocab_size))
    fed = _ids_of(codes, torch.arange(codes.shape[1]), vocab_size)
    return state.advance(slots, codes, F.embedding(fed, table).sum(dim=1))


def _ids_of(codes: Tensor, codebook: int | Tensor, vocab_size: int) -> Tensor:
    """Rows of a table of codebooks. The code past the last, of a logit that is not a number, is taken as the last."""
    return codes.clamp(max=vocab_size - 1) + codebook * vocab_size


class FrameDraw:
    """The sampling of one frame's rows. sampling: of every slot; slots: (B,), of the rows; frame: (B,) int64."""

    def __init__(
        self,
        sampling: SamplingRows,
        slots: Tensor,
        frame: Tensor,
        *,
        num_codebooks: int,
        codebook_size: int,
        vocab_size: int,
        compiled: bool = False,
    ) -> None:
        """codebook_size: ids that may be drawn; vocab_size: rows of the fed table per codebook; compiled: by a kernel,
        on a CPU.
        """
        self._sampling, self._slots, self._frame = sampling, slots, frame
        self._codebook_size, self._vocab_size = codebook_size, vocab_size
        self._codes = slots.new_empty(len(slots), num_codebooks)
        self._cpu_draw: torch_ops.FrameDraw | CpuDraw | None = None
        if compiled:
            self._cpu_draw = _cpu_frame().CpuDraw(sampling.at(slots), frame, codebook_size)
        elif not slots.is_cuda:
            self._cpu_draw = torch_ops.FrameDraw(sampling.at(slots), frame, num_codebooks, codebook_size)

    def codes(self, logits: Tensor, codebook: int, table: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Samples the codes of one codebook and looks up the depth decoder's inputs for them.

        logits: (B, codebook_size or more); table: (fed codebooks * V, d), None for the last codebook -> (B,) int64,
        (B, d).
        """
        if self._cpu_draw is None:
            from csm_engine.execution.ops import triton_ops

            return triton_ops.sample_and_feed(
                logits, self._sampling, self._slots, self._frame, codebook, self._codebook_size, self._vocab_size,
                table, codes=self._codes[:, codebook],
            )  # fmt: skip
        codes = self._cpu_draw.sample(logits, codebook)
        self._codes[:, codebook] = codes
        return codes, None if table is None else F.embedding(_ids_of(codes, codebook, self._vocab_size), table)

    @property
    def drawing(self) -> Drawing:
        """For a kernel that draws the codes itself."""
        return Drawing(self._sampling, self._slots, self._frame, self._codes)

    def frame(self) -> Tensor:
        """(B, K) int64: the codes of every codebook, once all are drawn."""
        return self._codes
