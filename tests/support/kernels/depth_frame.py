"""Frames for the depth decoder's kernel, and the comparison of each of its phases with its plain-torch twin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from torch import Tensor

from csm_engine.execution import matrix
from csm_engine.execution.frame_step import PackedDepthDecoder
from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.ops import torch_ops
from csm_engine.execution.ops.depth import frame_kernels as kernels
from csm_engine.execution.ops.depth.depth_launches import DepthKernel
from csm_engine.execution.ops.depth.depth_shape import ROUNDED_BLOCK
from csm_engine.execution.row_threads import RowThreads
from csm_engine.execution.sampling import Drawing, SamplingRows
from csm_engine.execution.weights import PackedWeights


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame to make: the inputs of positions 0 and 1, the sampling, and the codes expected without the kernel."""

    first: Tensor
    fed: Tensor
    drawing: Drawing
    expected: Tensor

    @property
    def rows(self) -> int:
        return len(self.first)

    def again(self, rows: int | None = None) -> Frame:
        """The sampling of the first rows, all by default. Its codes are unknown but for codebook 0."""
        here = slice(rows)
        codes = torch.zeros_like(self.expected[here])
        codes[:, 0] = self.expected[here, 0]
        drawing = Drawing(self.drawing.sampling, self.drawing.slots[here], self.drawing.frame[here], codes)
        return Frame(self.first[here], self.fed[here], drawing, self.expected[here])


def new_frame(weights: PackedWeights, rows: int, seed: int = 0) -> Frame:
    """A random frame. Its codes are made without the kernel, with rows in eight bits where the kernel rounds them."""
    generator, config, device = torch.Generator().manual_seed(seed), weights.config, weights.device
    hidden = torch.randn(rows, config.backbone.dim, generator=generator).to(device, weights.dtype)
    slots, frame = torch.randperm(rows, generator=generator).to(device), torch.arange(rows, device=device) + 5
    sampling = SamplingRows(
        torch.rand(rows, generator=generator).to(device),
        torch.randint(1, min(50, config.codebook_size), (rows,), generator=generator).to(device),
        torch.arange(rows, device=device) * 7,
    )
    draw = ops.FrameDraw(
        sampling,
        slots,
        frame,
        num_codebooks=config.num_codebooks,
        codebook_size=config.codebook_size,
        vocab_size=config.audio_vocab_size,
    )
    logits = torch.randn(rows, config.codebook_size, generator=generator).to(device)
    _, fed = draw.codes(logits, 0, weights.projected_embeddings)
    assert fed is not None
    with rounded_rows(weights, rows):
        expected = PackedDepthDecoder(replace(weights, stacked_depth=None), RowThreads(1)).frame(hidden, fed, draw)
    first = ops.linear(hidden, weights.projection)
    return Frame(first, fed, Drawing(sampling, slots, frame, expected), expected).again()


def left_in(kernel: DepthKernel, frame: Frame) -> list[Tensor]:
    """Copies of the codes, and of what a frame leaves in the buffers of its rows."""
    buffers, rows = kernel.buffers(frame.rows), frame.rows
    parts = (buffers.x, buffers.square, buffers.qkv, buffers.attended, buffers.inner, buffers.logits)
    return [frame.drawing.codes.clone(), *(part[:rows].clone() for part in parts), buffers.cache.clone()]


def in_eight_bits(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """x, (rows, n), as whole numbers from -127 to 127, with a scale for each block of a row, (rows, n / block)."""
    blocks = x.float().view(len(x), -1, block)
    largest = blocks.abs().amax(dim=-1)
    steps = blocks * (127 / largest.clamp_min(1e-30)).unsqueeze(-1)
    return steps.round().flatten(-2), largest * (1 / 127)


def widened(values: Tensor, scales: Tensor) -> Tensor:
    """The numbers, (rows, n) float32. values: (rows, n). scales: (rows, blocks)."""
    blocks = values.float().reshape(len(values), scales.shape[-1], -1)
    wide: Tensor = (blocks * scales.unsqueeze(-1)).flatten(-2)
    return wide


@contextmanager
def plain_matrices() -> Iterator[None]:
    """As on a GPU: a CPU that multiplies bfloat16 would take the matrices in a layout of its own."""
    with patch.object(matrix, "is_worth_packing", lambda weight: False):
        yield


@contextmanager
def rounded_rows(weights: PackedWeights, rows: int) -> Iterator[None]:
    """The depth decoder's products over int8 take rows of eight bits, as its kernel's do in a frame of `rows` rows: all
    but layer 0's q, k and v for a code, which come from a table.
    """
    layers, head_dim = weights.depth_decoder.layers, weights.config.depth_decoder.head_dim
    outs = {layer.out.values.data_ptr() for layer in layers}
    known = {getattr(layer, kind).values.data_ptr() for layer in layers for kind in ("qkv", "out", "gate_up", "down")}
    from_table = layers[0].qkv.values.data_ptr()
    is_fused, linear = ops._is_fused, ops.linear

    def is_rounded(x: Tensor, matrix: Matrix) -> bool:
        if matrix.values.data_ptr() == from_table and len(x) == rows:  # the first pass has twice as many
            return False
        return matrix.values.dtype is torch.int8 and matrix.values.data_ptr() in known

    def of_rounded(x: Tensor, matrix: Matrix) -> Tensor:
        if is_rounded(x, matrix):
            block = head_dim if matrix.values.data_ptr() in outs else ROUNDED_BLOCK
            x = widened(*in_eight_bits(x, block)).to(x.dtype)
        return linear(x, matrix)

    with (
        patch.object(ops, "linear", of_rounded),
        patch.object(
            ops, "_is_fused", lambda x, matrix, **how: not is_rounded(x, matrix) and is_fused(x, matrix, **how)
        ),
    ):
        yield


def check_phases(
    kernel: DepthKernel, weights: PackedWeights, frame: Frame, assert_close: Callable[[Tensor, Tensor], None]
) -> Counter[int]:
    """Runs a frame phase by phase, and compares each with its twin on the same inputs.

    Returns how often each phase was checked. The twins run on a CPU.
    """
    rows, config, drawing = frame.rows, weights.config, frame.drawing
    buffers, stack, eps = kernel.buffers(rows), weights.depth_decoder, config.depth_decoder.norm_eps
    rope, num_heads = stack.rope.cpu(), stack.config.num_heads
    checked: Counter[int] = Counter()
    rounded, of_attended = kernel.shape(rows).rounded, kernel.shape(rows).parts
    of_inner, error = of_attended + num_heads, 3e-2 if weights.dtype is torch.bfloat16 else 1e-5
    before, eight = buffers.x.cpu().clone(), buffers.eight.cpu().clone()
    row_scale = buffers.row_scale.cpu().clone()
    for number, codebook, layer, position in kernel.frame_by_phases(frame.first, frame.fed, drawing):
        here, packed = slice(0, 2 * rows if codebook == 1 else rows), stack.layers[layer]
        x, after = before[here], buffers.x[here].cpu()
        attended, inner = buffers.attended[here].cpu(), buffers.inner[here].cpu()
        if rounded:
            attended = widened(attended, buffers.row_scale[of_attended:of_inner, here].t().cpu()).to(x.dtype)
            inner = widened(inner, buffers.row_scale[of_inner:, here].t().cpu()).to(x.dtype)

        def normed(x: Tensor = x, here: slice = here, eight: Tensor = eight, row_scale: Tensor = row_scale) -> Tensor:
            if not rounded:
                return ops.rms_norm(x, None, eps)
            length = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + eps)
            return (widened(eight[here], row_scale[:of_attended, here].t()) * length).to(x.dtype)

        def on_cpu(kind: str, packed: object = packed) -> Matrix:
            matrix: Matrix = getattr(packed, kind)
            return replace(
                matrix, values=matrix.values.cpu(), scale=None if matrix.scale is None else matrix.scale.cpu()
            )

        if number == kernels.TAKE.value:
            assert torch.equal(after, torch.cat([frame.first, frame.fed]).cpu())
        elif number == kernels.QKV.value:
            assert_close(buffers.qkv[here], ops.linear(normed(), on_cpu("qkv")))
        elif number == kernels.ATTEND.value:
            keys, values = buffers.keys[layer].cpu().clone(), buffers.values[layer].cpu().clone()
            own = slice(rows, 2 * rows) if (codebook, position) == (1, 1) else slice(0, rows)
            qkv = buffers.qkv[own].cpu()
            twin = torch_ops.depth_attention(qkv, keys, values, position, rope, num_heads)
            if rounded:
                _check_rounded(buffers.attended[own], buffers.row_scale[of_attended:of_inner, own], twin, error)
            else:
                assert_close(buffers.attended[own], twin)
            assert_close(buffers.keys[layer, :, :, position], keys[:, :, position])  # as the twin has written them
            assert_close(buffers.values[layer, :, :, position], values[:, :, position])
        elif number == kernels.OUT.value:
            assert_close(after, ops.add_linear(x.clone(), attended, on_cpu("out")))
        elif number == kernels.GATE_UP.value:
            twin = torch_ops.silu_mul(ops.linear(normed(), on_cpu("gate_up")))
            if rounded:
                _check_rounded(buffers.inner[here], buffers.row_scale[of_inner:, here], twin, error)
            else:
                assert_close(inner, twin)
        elif number == kernels.DOWN.value:
            assert_close(after, ops.add_linear(x.clone(), inner, on_cpu("down")))
        elif number == kernels.HEAD.value:
            head = weights.depth_heads[codebook - 1].first(config.codebook_size)
            head = replace(head, values=head.values.cpu())
            assert_close(buffers.logits[:rows], ops.norm_linear(x[-rows:], None, head, eps))
        else:
            _check_draw(weights, frame, buffers.logits[:rows].cpu(), buffers.x[:rows].cpu(), codebook)
            if codebook < config.num_codebooks - 1:
                twin = ops.linear(ops.rms_norm(buffers.x[:rows].cpu(), None, eps), on_cpu("qkv"))
                assert_close(buffers.qkv[:rows], twin)
        assert not buffers.arrivals.any()
        assert_close(buffers.square[here].sum(dim=1).cpu(), after.double().square().sum(dim=1))
        if rounded:
            _check_rounded(buffers.eight[here], buffers.row_scale[:of_attended, here], after)
        checked[number] += 1
        before, eight, row_scale = buffers.x.cpu().clone(), buffers.eight.cpu().clone(), buffers.row_scale.cpu().clone()
    return checked


def _check_rounded(values: Tensor, scales: Tensor, expected: Tensor, error: float = 1e-5) -> None:
    """values: (rows, n) int8; scales: (blocks, rows); expected: (rows, n), which the rounded numbers may differ from
    by `error` of a block's largest. Each value is the nearest to its number.
    """
    values, scales, expected = values.cpu(), scales.t().cpu(), expected.cpu()
    blocks = expected.float().reshape(len(expected), scales.shape[-1], -1)
    torch.testing.assert_close(scales, blocks.abs().amax(dim=-1) / 127, rtol=error, atol=1e-9)
    steps = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)
    assert (values.float() - steps.flatten(-2)).abs().max() <= 0.5 + 127 * error


def _check_draw(weights: PackedWeights, frame: Frame, logits: Tensor, fed: Tensor, codebook: int) -> None:
    config, drawing = weights.config, frame.drawing
    on_cpu = SamplingRows(*(getattr(drawing.sampling, name).cpu() for name in ("temperature", "top_k", "seed")))
    sampling = on_cpu.at(drawing.slots.cpu())
    twin = torch_ops.FrameDraw(sampling, drawing.frame.cpu(), codebook + 1, config.codebook_size)
    codes = drawing.codes[:, codebook]
    assert torch.equal(codes.cpu(), twin.sample(logits, codebook))
    if codebook < config.num_codebooks - 1:
        rows = weights.projected_embeddings[codes + codebook * config.audio_vocab_size]
        assert torch.equal(fed, rows.cpu())
