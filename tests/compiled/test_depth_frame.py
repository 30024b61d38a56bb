"""The kernel of the depth decoder's frame, compiled: each phase against its twin, and one cooperative launch of several
programs, which wait at its barriers, against its phases.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import Quantization  # noqa: E402
from csm_engine.execution.ops.depth.depth_launches import DepthKernel, phases_of  # noqa: E402
from csm_engine.execution.weights import PackedWeights, pack, stack_depth  # noqa: E402
from csm_engine.model.loader import random_model  # noqa: E402
from tests.csm_engine.execution.ops.test_depth_frame import SHORT, SMALL, WIDE  # noqa: E402
from tests.support.kernels.depth_frame import check_phases, left_in, new_frame, plain_matrices  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.twins import assert_rows_close  # noqa: E402

PROGRAMS = 3
CONFIGS = {"small": SMALL, "short": SHORT, "wide": WIDE}
CASES: list[tuple[str, Quantization, int]] = [("small", "none", 2), ("short", "float8", 17), ("wide", "int8", 2)]
SLOW_CASES: list[tuple[str, Quantization, int]] = [
    ("small", "none", 40), ("small", "float8", 40), ("small", "int8", 40), ("wide", "none", 64), ("wide", "int8", 64),
]  # fmt: skip
ALL_CASES = [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)]


def weights_of(config: str, quantization: Quantization) -> PackedWeights:
    model = random_model(CONFIGS[config], seed=1, dtype=torch.bfloat16)
    with plain_matrices():
        return stack_depth(pack(model, quantization=quantization, depth_kernel=True))


def kernel_of(weights: PackedWeights) -> DepthKernel:
    assert weights.stacked_depth is not None
    return DepthKernel(weights.stacked_depth, programs=PROGRAMS)


@torch.inference_mode()
@pytest.mark.parametrize(("config", "quantization", "rows"), ALL_CASES)
def test_phases_equal_their_twins_and_one_launch_equals_the_phases(
    config: str, quantization: Quantization, rows: int
) -> None:
    weights = weights_of(config, quantization)
    frame, kernel = new_frame(weights, rows), kernel_of(weights)
    with compiled_kernels():
        checked = check_phases(kernel, weights, frame, partial(assert_rows_close, tolerance=3e-2))
    stack = CONFIGS[config].depth_decoder
    assert sum(checked.values()) == len(list(phases_of(stack.num_layers, CONFIGS[config].num_codebooks)))
    by_phases = left_in(kernel, frame)
    again, kernel = frame.again(), kernel_of(weights)
    with compiled_kernels(seed=rows) as ran:
        kernel.frame(again.first, again.fed, again.drawing)
    assert ran == ["depth_frame_kernel"]
    for ours, expected in zip(left_in(kernel, again), by_phases, strict=True):
        assert torch.equal(ours, expected)
