"""The kernel of the depth decoder's frame, in Triton's interpreter: each phase against its plain-torch twin, and all
phases in one launch against one launch each.

A launch of one program waits for nobody, so the interpreter runs it too: with all of its loops, without its barriers'
effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution import matrix
from csm_engine.execution.frame_step import PackedDepthDecoder
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.ops import torch_ops as ops_torch
from csm_engine.execution.ops.depth import frame_kernels as kernels
from csm_engine.execution.ops.depth.depth_launches import DepthKernel, Drawing, phases_of
from csm_engine.execution.sampler import SamplingRows
from csm_engine.execution.weights import PackedWeights, pack, stack_depth
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig

SMALL = ModelConfig(
    backbone=TransformerConfig(num_layers=1, dim=32, num_heads=2, num_kv_heads=1, ffn_dim=32, max_seq_len=32),
    depth_decoder=TransformerConfig(num_layers=2, dim=64, num_heads=2, num_kv_heads=1, ffn_dim=64, max_seq_len=16),
    text_vocab_size=32,
    audio_vocab_size=19,
    num_codebooks=3,
    codebook_size=16,
)
ROWS = 2


@dataclass(frozen=True)
class Frame:
    """A frame to make: inputs of positions 0 and 1, and what codes are drawn by."""

    first: Tensor
    fed: Tensor
    drawing: Drawing
    expected: Tensor  # codes by plain torch


def weights_of(config: ModelConfig, dtype: torch.dtype) -> PackedWeights:
    return stack_depth(pack(random_model(config, seed=1, dtype=dtype), depth_kernel=True))


def new_frame(weights: PackedWeights, rows: int, seed: int = 0) -> Frame:
    generator, config = torch.Generator().manual_seed(seed), weights.config
    hidden = torch.randn(rows, config.backbone.dim, generator=generator).to(weights.dtype)
    slots, frame = torch.randperm(rows, generator=generator), torch.arange(rows) + 5
    top_k = torch.randint(1, config.codebook_size, (rows,), generator=generator)
    sampling = SamplingRows(torch.rand(rows, generator=generator), top_k, torch.arange(rows) * 7)
    sizes = {"codebook_size": config.codebook_size, "vocab_size": config.audio_vocab_size}
    draw = ops.FrameDraw(sampling, slots, frame, num_codebooks=config.num_codebooks, **sizes)
    logits = torch.randn(rows, config.codebook_size, generator=generator)
    _, fed = draw.codes(logits, 0, weights.projected_embeddings)
    assert fed is not None
    codes = torch.zeros(rows, config.num_codebooks, dtype=torch.int64)
    codes[:, 0] = draw.frame()[:, 0]
    expected = PackedDepthDecoder(weights).frame(hidden, fed, draw)
    first = ops.linear(hidden, weights.projection)
    return Frame(first, fed, Drawing(sampling, slots, frame, codes), expected)


def again(frame: Frame) -> Drawing:
    """The same drawing with codes of its own, of which only those of codebook 0 are known."""
    codes = torch.zeros_like(frame.expected)
    codes[:, 0] = frame.expected[:, 0]
    return replace(frame.drawing, codes=codes)


def assert_close(ours: Tensor, expected: Tensor) -> None:
    assert (ours.float() - expected.float()).abs().max() <= 2e-5 * expected.float().abs().max()


@torch.inference_mode()
def test_every_phase_equals_its_twin_and_one_launch_equals_the_phases() -> None:
    """Phase by phase on the very inputs that the phase had; then all buffers and codes of one launch, to the bit."""
    weights = weights_of(SMALL, torch.float32)
    frame = new_frame(weights, ROWS)
    drawing = again(frame)
    kernel = DepthKernel(weights.stacked_depth, programs=5)
    buffers, stack, eps = kernel.buffers(ROWS), weights.depth_decoder, SMALL.depth_decoder.norm_eps
    checked: Counter[int] = Counter()
    before = buffers.x.clone()
    for number, codebook, layer, position in kernel.frame_by_phases(frame.first, frame.fed, drawing):
        here, packed = slice(0, 2 * ROWS if codebook == 1 else ROWS), stack.layers[layer]
        x = before[here]
        if number == kernels.TAKE.value:
            assert torch.equal(buffers.x[here], torch.cat([frame.first, frame.fed]))
        elif number == kernels.QKV.value:
            assert_close(buffers.qkv[here], ops.norm_linear(x, None, packed.qkv, eps))
        elif number == kernels.ATTEND.value:
            keys, values = buffers.keys[layer].clone(), buffers.values[layer].clone()
            rows = slice(ROWS, 2 * ROWS) if (codebook, position) == (1, 1) else slice(0, ROWS)
            own = buffers.qkv[rows]
            expected = ops_torch.depth_attention(own, keys, values, position, stack.rope, stack.config.num_heads)
            assert_close(buffers.attended[rows], expected)
            assert_close(buffers.keys[layer], keys)  # the twin has written what was written already
        elif number == kernels.OUT.value:
            assert_close(buffers.x[here], ops.add_linear(x.clone(), buffers.attended[here], packed.out))
        elif number == kernels.GATE_UP.value:
            assert_close(buffers.inner[here], ops.norm_gated(x, None, packed.gate_up, eps))
        elif number == kernels.DOWN.value:
            assert_close(buffers.x[here], ops.add_linear(x.clone(), buffers.inner[here], packed.down))
        elif number == kernels.HEAD.value:
            head = weights.depth_heads[codebook - 1].first(SMALL.codebook_size)
            assert_close(buffers.logits[:ROWS], ops.norm_linear(x[-ROWS:], None, head, eps))
        else:
            sampling = drawing.sampling.at(drawing.slots)
            twin = ops_torch.FrameDraw(sampling, drawing.frame, codebook + 1, SMALL.codebook_size)
            assert torch.equal(drawing.codes[:, codebook], twin.sample(buffers.logits[:ROWS], codebook))
            if codebook < SMALL.num_codebooks - 1:
                fed = drawing.codes[:, codebook] + codebook * SMALL.audio_vocab_size
                assert torch.equal(buffers.x[:ROWS], weights.projected_embeddings[fed])
        assert not buffers.arrivals.any()
        assert_close(buffers.square[here].sum(dim=1), buffers.x[here].double().square().sum(dim=1))
        checked[number] += 1
        before = buffers.x.clone()
    assert checked == {0: 1, 1: 4, 2: 6, 3: 4, 4: 4, 5: 4, 6: 2, 7: 2}
    assert torch.equal(drawing.codes, frame.expected)

    one = DepthKernel(weights.stacked_depth, programs=1)
    assert torch.equal(one.frame(frame.first, frame.fed, again(frame)), frame.expected)
    for ours, expected in zip(one.buffers(ROWS).all(), buffers.all(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 9, 20])
def test_frames_in_bfloat16_follow_each_other_in_the_same_buffers(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """9 rows: with both positions of the first pass, more than a row block. 20: one program attends with all heads of
    a key head. The second frame finds what the first has left.
    """
    monkeypatch.setattr(matrix, "is_worth_packing", lambda weight: False)
    weights = weights_of(SMALL, torch.bfloat16)
    by_phases, one = DepthKernel(weights.stacked_depth, programs=7), DepthKernel(weights.stacked_depth, programs=1)
    for seed in range(2):
        frame = new_frame(weights, rows, seed)
        drawings = [again(frame) for _ in range(2)]
        for _ in by_phases.frame_by_phases(frame.first, frame.fed, drawings[0]):
            pass
        one.frame(frame.first, frame.fed, drawings[1])
        assert torch.equal(drawings[0].codes, drawings[1].codes)
        for ours, expected in zip(one.buffers(rows).all(), by_phases.buffers(rows).all(), strict=True):
            assert torch.equal(ours, expected)
        assert (drawings[0].codes == frame.expected).float().mean() > 0.9  # rounding may turn one


def test_a_frame_has_as_many_phases_as_the_design_says() -> None:
    config = replace(SMALL, num_codebooks=32, depth_decoder=replace(SMALL.depth_decoder, num_layers=4, max_seq_len=32))
    phases = list(phases_of(DepthKernel(weights_of(config, torch.float32).stacked_depth, programs=1).shape(1)))
    assert len(phases) == 1 + 31 * (4 * 5 + 2) + 4


SIZES: dict[str, tuple[Callable[[], ModelConfig], str]] = {
    "dim": (lambda: replace(SMALL, depth_decoder=replace(SMALL.depth_decoder, dim=96)), "power of two"),
    "codebook_size": (lambda: replace(SMALL, codebook_size=18), "power of two as codebook_size; given is 18"),
    "ffn_dim": (lambda: replace(SMALL, depth_decoder=replace(SMALL.depth_decoder, ffn_dim=32)), "at least 64; given"),
}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_it_cannot_take_are_named(size: str) -> None:
    make, told = SIZES[size]
    with pytest.raises(ValueError, match=f"depth kernel needs a.*{told}"):
        weights_of(make(), torch.float32)


def test_eight_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="without quantization; given is float8"):
        pack(random_model(SMALL, seed=1), quantization="float8", depth_kernel=True)
