"""The depth decoder's cooperative launch with all of its programs, in Triton's interpreter: no two of them touch the
same value between two barriers unless both read it, and none touches a row that is not there.

The rules, and what they are shown to see, are those of tests/support/kernels/races. What they do not show: that a GPU
keeps its promises about atomic operations. What the compiled code asks of it is held by
tests/bench/kernel_proof/test_memory_order.py.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from bench.shapes import CSM_1B  # noqa: E402
from csm_engine.execution.depth_weights import DEPTH_KERNEL_ROWS  # noqa: E402
from csm_engine.execution.ops.depth import frame_kernels, products  # noqa: E402
from csm_engine.execution.ops.depth.depth_launches import DepthKernel, phases_of  # noqa: E402
from csm_engine.execution.ops.depth.depth_shape import DepthShape  # noqa: E402
from csm_engine.execution.ops.depth.grid_barrier import wait_for_all  # noqa: E402
from csm_engine.execution.weights import pack, stack_depth  # noqa: E402
from csm_engine.model.loader import random_model  # noqa: E402
from csm_engine.model.shapes import ModelConfig  # noqa: E402
from csm_engine.scheduling.buckets import BUCKETS  # noqa: E402
from tests.csm_engine.execution.ops.test_depth_frame import SHORT, SMALL  # noqa: E402
from tests.support.kernels.depth_frame import new_frame  # noqa: E402
from tests.support.kernels.races.accesses import Accesses  # noqa: E402
from tests.support.kernels.races.depth_kernel import (  # noqa: E402
    as_on_a_gpu,
    checked_frame,
    drawing_of,
    weights_without_values,
)
from tests.support.kernels.races.turns import Choose, backward, forward  # noqa: E402

CSM_1B_SHORT = replace(CSM_1B, num_codebooks=3, depth_decoder=replace(CSM_1B.depth_decoder, num_layers=2))


def empty_frame(
    config: ModelConfig, rows: int, choose: Choose, *, programs: int | None = None, dtype: torch.dtype = torch.float32,
    barriers: bool = True, int8: bool = False,
) -> tuple[Accesses, DepthShape]:  # fmt: skip
    """A frame without values; programs: as many as an H100 has by default; barriers: as in `checked_frame`; int8:
    weights and rows of products.
    """
    kernel = DepthKernel(weights_without_values(config, dtype, int8=int8), programs=programs)
    first, fed = (torch.zeros(rows, config.depth_decoder.dim, dtype=dtype) for _ in range(2))
    shape = as_on_a_gpu(kernel.shape(rows))
    drawing = drawing_of(rows, config.num_codebooks)
    return checked_frame(kernel, first, fed, drawing, choose, shape=shape, values=False, barriers=barriers), shape


@torch.inference_mode()
def test_five_programs_have_no_race_and_draw_the_codes_of_the_plain_form() -> None:
    """In an order by chance. The launch leaves what it found: arrivals of zero, and a counter that only its highest
    bit has changed in.
    """
    weights = stack_depth(pack(random_model(SMALL, seed=1, dtype=torch.float32), depth_kernel=True))
    assert weights.stacked_depth is not None
    kernel, frame = DepthKernel(weights.stacked_depth, programs=5), new_frame(weights, 2)
    barriers = len(list(phases_of(2, 3)))
    accesses = checked_frame(kernel, frame.first, frame.fed, frame.drawing, random.Random(0).choice)
    assert accesses.races == [] and accesses.arrivals == [barriers] * 5
    assert torch.equal(frame.drawing.codes, frame.expected)
    assert int(kernel._counter) % 2**32 == barriers * 2**31 % 2**32
    assert not kernel.buffers(2).arrivals.any()


def skip_barrier(barrier: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every program."""
    passed: Counter[int] = Counter()

    def wait(counter: object, program: object, programs: object, patience: object) -> object:
        number = int(program)  # type: ignore[call-overload]
        passed[number] += 1
        return patience if passed[number] == barrier + 1 else wait_for_all(counter, program, programs, patience)

    monkeypatch.setattr(frame_kernels, "wait_for_all", wait)


BARRIERS = 26  # of a frame of the small shape
BEHIND_DOWN = 6


@pytest.mark.parametrize(
    "barrier",
    [pytest.param(n, marks=() if n == BEHIND_DOWN else pytest.mark.slow) for n in range(BARRIERS - 1)],
)
def test_a_barrier_that_is_left_out_is_a_race(barrier: int, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_barrier(barrier, monkeypatch)
    accesses, _ = empty_frame(SMALL, 2, forward, programs=5, barriers=False)
    assert accesses.arrivals == [BARRIERS - 1] * 5
    assert {(race.rule, race.interval) for race in accesses.races} >= {("touch the same, and not all read", barrier)}
    assert {race.interval for race in accesses.races} == {barrier}


@torch.inference_mode()
@pytest.mark.parametrize("int8", [pytest.param(False, marks=pytest.mark.slow), True])
def test_absent_rows_are_not_accessed(int8: bool) -> None:
    """33 rows of 64, so gate and up in tiles of two products. The other tests here hold it too: `races` has it as a
    rule.
    """
    accesses, shape = empty_frame(SHORT, 33, forward, programs=1, int8=int8)
    assert accesses.races == [] and shape.row_block == 64


MASKING = ("load_rows", "norm_scale", "add_sums", "normed_product", "gated_product", "added_product")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == MASKING[0] else pytest.mark.slow) for name in MASKING]
)
def test_the_checker_detects_access_to_an_absent_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a function takes whole row blocks to be there, so that its masks are none."""
    module = frame_kernels if name.endswith("ed_product") else products
    function = getattr(module, name)
    place = list(inspect.signature(function.fn).parameters).index("rows")

    def of_whole_blocks(*arguments: Any) -> Any:
        rows = (arguments[place] + 15) // 16 * 16
        return function(*arguments[:place], rows, *arguments[place + 1 :])

    monkeypatch.setattr(module, name, of_whole_blocks)
    accesses, shape = empty_frame(SHORT, 2, forward, programs=1)
    assert shape.row_block == 16
    assert {race.rule for race in accesses.races} == {"touches what is not there"}


@pytest.mark.slow
@pytest.mark.parametrize("choose", [forward, backward, random.Random(2).choice], ids=["forward", "backward", "chance"])
@pytest.mark.parametrize("rows", [1, 9, 17, 64])
@pytest.mark.parametrize("int8", [False, True])
def test_no_order_of_programs_has_a_race(int8: bool, rows: int, choose: Choose) -> None:
    accesses, _ = empty_frame(SMALL, rows, choose, programs=7, int8=int8)
    assert accesses.races == [] and accesses.arrivals == [BARRIERS] * 7


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [bucket for bucket in BUCKETS if bucket <= DEPTH_KERNEL_ROWS])
@pytest.mark.parametrize("int8", [False, True])
def test_programs_of_an_h100_have_no_race_at_the_sizes_of_csm_1b(int8: bool, rows: int) -> None:
    """Each bucket; two layers and three codebooks of them, so a first pass and one with a single position.

    Every matrix is prefetched once in a pass, but that of layer 0's q, k and v in the first pass alone. Barriers
    between the two positions of the first pass are idle where one program attends with all heads of a key head.
    """
    accesses, shape = empty_frame(CSM_1B_SHORT, rows, random.Random(rows).choice, dtype=torch.bfloat16, int8=int8)
    order = list(phases_of(shape.layers, shape.codebooks))
    assert accesses.races == [] and accesses.arrivals == [len(order)] * 132
    between = [n for n, phase in enumerate(order) if phase == (frame_kernels.ATTEND.value, 1, phase[2], 0)]
    assert accesses.idle == (between if shape.members > 1 else []) + [len(order) - 1]
    weights = weights_without_values(CSM_1B_SHORT, torch.bfloat16, int8=int8)
    for name in ("qkv", "out", "gate_up", "down"):
        layers = shape.layers - 1 if name == "qkv" else shape.layers  # of a later pass
        passes = shape.layers + (shape.codebooks - 2) * layers
        assert accesses.prefetched[f"{name}_weight"] == passes * getattr(weights, name)[0].nbytes
    assert accesses.prefetched["head_weight"] == (shape.codebooks - 1) * shape.codebook_size * shape.dim * 2
