"""The kernel of the depth decoder's frame on the device, at csm-1b's sizes of the depth decoder.

Only here do its programs wait for each other. A program that waits in vain ends the launch, and with it this process'
use of the device, so these tests are a part of the lease of their own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch")

from bench.shapes import SHAPES  # noqa: E402
from csm_engine.execution.frame_step import PackedFrameStep  # noqa: E402
from csm_engine.execution.graph_runner import GraphRunner  # noqa: E402
from csm_engine.execution.ops.depth.depth_launches import DepthKernel, phases_of  # noqa: E402
from csm_engine.execution.weights import PackedWeights, pack, stack_depth  # noqa: E402
from csm_engine.model.loader import random_model  # noqa: E402
from csm_engine.types import SamplingParams  # noqa: E402
from tests.csm_engine.execution.ops.test_depth_frame import SMALL  # noqa: E402
from tests.gpu.device import DEVICE, ON_GPU, times  # noqa: E402
from tests.support.kernels.depth_frame import Frame, check_phases, left_in, new_frame, plain_matrices  # noqa: E402
from tests.support.kernels.twins import assert_rows_close  # noqa: E402

FULL = replace(
    SHAPES["csm-1b"], backbone=SHAPES["csm-1b-shallow"].backbone, text_vocab_size=320
)  # the depth decoder in full
CONFIG, ROWS = (FULL, (1, 8, 16, 17, 33, 64)) if ON_GPU else (SMALL, (1, 33))
LAYERS = CONFIG.depth_decoder.num_layers
PROGRAMS = None if ON_GPU else 1  # in the interpreter, programs run one after the other: nobody may wait


@pytest.fixture(scope="module", params=["none", "float8", "int8"])
def weights(request: pytest.FixtureRequest) -> PackedWeights:
    model = random_model(CONFIG, seed=1, device=DEVICE, dtype=torch.bfloat16, drawn_on=DEVICE)
    with plain_matrices():
        packed = pack(model, quantization=request.param, depth_kernel=True)
        return packed if ON_GPU else stack_depth(packed)


@pytest.fixture(scope="module")
def kernel(weights: PackedWeights) -> DepthKernel:
    assert weights.stacked_depth is not None
    return DepthKernel(weights.stacked_depth, programs=PROGRAMS)


def made(kernel: DepthKernel, frame: Frame) -> list[Tensor]:
    """The codes and what one launch leaves in the buffers of rows that it writes."""
    kernel.frame(frame.first, frame.fed, frame.drawing)
    return left_in(kernel, frame)


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 17, 64])
def test_every_phase_equals_its_twin(weights: PackedWeights, kernel: DepthKernel, rows: int) -> None:
    checked = check_phases(kernel, weights, new_frame(weights, rows), partial(assert_rows_close, tolerance=3e-2))
    assert sum(checked.values()) == len(list(phases_of(LAYERS, CONFIG.num_codebooks)))


@torch.inference_mode()
@pytest.mark.parametrize("rows", ROWS)
def test_one_launch_equals_its_phases_to_the_bit(weights: PackedWeights, kernel: DepthKernel, rows: int) -> None:
    frame = new_frame(weights, rows)
    phases = frame.again()
    for _ in kernel.frame_by_phases(phases.first, phases.fed, phases.drawing):
        pass
    expected = left_in(kernel, phases)
    for _ in times(50):  # a race does not show every time
        for ours, theirs in zip(made(kernel, frame.again()), expected, strict=True):
            assert torch.equal(ours, theirs)


@torch.inference_mode()
def test_bits_of_a_row_do_not_depend_on_the_batch(weights: PackedWeights, kernel: DepthKernel) -> None:
    frame = new_frame(weights, ROWS[-1])

    def of_first_row(rows: int) -> list[Tensor]:
        """Of a row's squares their sum: wider tiles have fewer parts of it."""
        codes, x, square, *others = made(kernel, frame.again(rows))[:7]
        return [part[:1] for part in (codes, x, square.sum(dim=1).float(), *others)]

    alone = of_first_row(1)
    for rows in ROWS[1:]:
        for ours, expected in zip(of_first_row(rows), alone, strict=True):
            assert torch.equal(ours, expected), f"{rows} rows"


@torch.inference_mode()
def test_the_number_of_programs_changes_no_bit(weights: PackedWeights, kernel: DepthKernel) -> None:
    frame, fewer = new_frame(weights, 5), DepthKernel(kernel.weights, programs=50 if ON_GPU else 1)
    for ours, expected in zip(made(fewer, frame.again()), made(kernel, frame.again()), strict=True):
        assert torch.equal(ours, expected)


@torch.inference_mode()
def test_codes_are_mostly_those_of_the_plain_form(weights: PackedWeights, kernel: DepthKernel) -> None:
    """Rounding differs, and one other code changes all that follow in its row: so of codebook 1 alone."""
    frame = new_frame(weights, ROWS[-1])
    codes = kernel.frame(frame.first, frame.fed, frame.drawing)
    assert (codes[:, 1] == frame.expected[:, 1]).float().mean() >= 0.85


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_a_captured_step_equals_eager(weights: PackedWeights, rows: int) -> None:
    """A cooperative launch inside a CUDA graph, frame after frame, beside graphs of other buckets."""
    steps = []
    for _ in range(2):
        steps.append(PackedFrameStep(weights, rows))
        for slot in range(rows):
            prompt = torch.randn(9, CONFIG.backbone.dim, generator=torch.Generator().manual_seed(slot))
            prompt = prompt.to(DEVICE, torch.bfloat16)
            steps[-1].backbone.prefill(prompt[:-1], slot, 0)
            steps[-1].state.start(slot, prompt[-1], position=8, frame=0, sampling=SamplingParams(seed=slot))
    slots = torch.arange(rows, device=DEVICE)
    runner = GraphRunner(steps[0], rows, constant_shape=True)
    eager = torch.stack([steps[1](slots).clone() for _ in range(20)])
    assert torch.equal(torch.stack([runner(slots).clone() for _ in range(20)]), eager)
