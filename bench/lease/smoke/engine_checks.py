"""Of the engine's captured steps, and of launches whose programs wait for each other. Those come last: what goes wrong
with them ends the process' use of the device.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.lease.options import Given
from bench.lease.prefill import prompt
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.matrix import FLOAT8, Matrix, Quantization
from csm_engine.execution.ops.dispatch import linear
from csm_engine.execution.weights import PackedWeights, pack
from csm_engine.model.loader import random_model
from csm_engine.scheduling.buckets import PROMPT_TILE

SLOTS, PASS_ROWS, FRAMES = 4, 64, 5
NUM_BYTES = 256
MANY = 64  # barriers


def weights_of_eight_bits_are_widened_exactly(given: Given) -> dict[str, object]:
    """Every byte but those that are no number, in products by the rows of the identity; at each place of a tile."""
    width = 4 * NUM_BYTES
    identity = torch.eye(width, device=given.device, dtype=given.dtype)
    numbers = torch.arange(width, device=given.device) % NUM_BYTES
    for dtype in (FLOAT8, torch.int8):
        row = numbers.to(torch.uint8).view(dtype)
        values = torch.where(row.float().isfinite(), row.float(), 0.0).to(dtype).expand(width, width).contiguous()
        matrix = Matrix(values, torch.ones(width, device=given.device), fused=True)
        made = torch.cat([linear(few, matrix) for few in identity.split(16)])
        wrong = (made.float() != values.t().float()).any(dim=1)
        assert not wrong.any(), f"{dtype}: bytes {sorted(set(numbers[wrong].tolist()))}"
    return {"bytes": NUM_BYTES}


def captured_pass_and_step_equal_eager(given: Given) -> dict[str, object]:
    """Three prompts in one pass, then frames of four rows, of which one is padding."""
    weights = _weights(given, depth_kernel=False)
    captured, eager = PackedFrameStep(weights, SLOTS), PackedFrameStep(weights, SLOTS)
    runner = GraphRunner(captured, SLOTS, prefill_rows=PASS_ROWS, constant_shape=True)
    prompts = [prompt(given.model, slot, 0, rows, is_last=True) for slot, rows in enumerate((20, 1, 13))]
    runner.prefill(prompts)
    tile = PROMPT_TILE if given.on_gpu else 1
    eager.prefill_pass(eager.prompt_table(prompts, PASS_ROWS, tile).to(given.device))
    slots = torch.arange(SLOTS, device=given.device)
    for _ in range(FRAMES):
        assert torch.equal(runner(slots)[:3], eager(slots)[:3])
    return {"frames": FRAMES}


def barriers_beside_other_work(given: Given) -> dict[str, object]:
    """All programs of a cooperative launch run at once, launched and from a graph, also while another stream's products
    fill the device.
    """
    from bench.lease.barriers.kernels import run_barriers

    programs = torch.cuda.get_device_properties(given.device).multi_processor_count
    counter = torch.zeros(1, dtype=torch.int32, device=given.device)
    left = torch.zeros(programs, dtype=torch.int32, device=given.device)
    run_barriers(counter, left, MANY, 8)
    assert left.gt(0).all() and (counter & 0x7FFFFFFF).eq(0).all(), "launched"
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run_barriers(counter, left, MANY, 8)
    x = torch.randn(8192, 8192, device=given.device, dtype=torch.bfloat16)
    other = torch.cuda.Stream(given.device)
    for beside in (False, True):
        left.zero_()
        if beside:
            other.wait_stream(torch.cuda.current_stream(given.device))
            with torch.cuda.stream(other):
                for _ in range(20):
                    x @ x
        for _ in range(20):
            graph.replay()
        assert left.gt(0).all(), f"replayed, beside other work: {beside}"
        torch.cuda.synchronize(given.device)
    return {"programs": programs, "barriers": MANY}


def depth_kernel_equals_its_phases(given: Given) -> dict[str, object]:
    """One launch for a frame of one layer, against a launch for each phase; and from a graph."""
    return _depth_kernel_equals_its_phases(given, "none")


def depth_kernel_over_float8_equals_its_phases(given: Given) -> dict[str, object]:
    return _depth_kernel_equals_its_phases(given, "float8")


def depth_kernel_over_int8_equals_its_phases(given: Given) -> dict[str, object]:
    """With rows in eight bits too."""
    return _depth_kernel_equals_its_phases(given, "int8")


def _depth_kernel_equals_its_phases(given: Given, quantization: Quantization) -> dict[str, object]:
    from csm_engine.execution.ops.depth.depth_launches import DepthKernel
    from tests.support.kernels.depth_frame import new_frame

    weights = _weights(given, depth_kernel=True, quantization=quantization)
    assert weights.stacked_depth is not None
    kernel, frame = DepthKernel(weights.stacked_depth), new_frame(weights, 1)
    expected = frame.again()
    for _ in kernel.frame_by_phases(expected.first, expected.fed, expected.drawing):
        pass
    codes = expected.drawing.codes.clone()
    for _ in range(20):
        ours = frame.again()
        assert torch.equal(kernel.frame(ours.first, ours.fed, ours.drawing), codes), "launched"
    step = PackedFrameStep(weights, 1)
    runner = GraphRunner(step, 1, prefill_rows=PROMPT_TILE)
    runner.prefill([prompt(given.model, 0, 0, 5, is_last=True)])
    slots = torch.arange(1, device=given.device)
    made = torch.stack([runner(slots)[0].clone() for _ in range(FRAMES)])
    assert made[:, :-1].lt(given.model.codebook_size).all() and made[:, 1:-1].unique().numel() > 1, made
    return {"programs": kernel.programs}


def _weights(given: Given, *, depth_kernel: bool, quantization: Quantization = "none") -> PackedWeights:
    """Of the model's widths with two layers and one: what is compiled is the same."""
    config = given.model
    few = replace(
        config,
        backbone=replace(config.backbone, num_layers=min(2, config.backbone.num_layers)),
        depth_decoder=replace(config.depth_decoder, num_layers=1),
    )
    model = random_model(few, seed=0, device=given.device, dtype=given.dtype, drawn_on=given.device)
    return pack(model, quantization=quantization, depth_kernel=depth_kernel)
