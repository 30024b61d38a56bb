"""Microseconds of the kernel that makes the depth decoder's whole frame: arithmetic over its phases. Nothing of it is
measured; the assumptions are the constants below.

The counts are of csm-1b's widths. Memory is a queue: the weights that programs prefetch behind a phase arrive one after
the other while the next phases run. A phase ends when its work is done and its last weights are there; then comes a
barrier.
"""

from __future__ import annotations

from bench.kernel_proof.depth.depth_counts import kept_work, steps_of
from bench.kernel_proof.prefetch_model import CACHE_BYTES_PER_US
from csm_engine.execution.ops.depth.depth_launches import Phase, phases_of
from csm_engine.execution.ops.depth.depth_shape import DepthShape
from csm_engine.execution.ops.depth.frame_kernels import ATTEND, DOWN, DRAW, GATE_UP, HEAD, OUT, QKV, TAKE
from csm_engine.execution.ops.prefetch.prefetch_kernel import PIECE

BYTES_PER_US = 2.76e6  # of memory: read and written by a large copy on an H100
PROGRAM_BYTES_PER_US = 112e3  # of it, by one program: 64 bytes a clock, assumed
BARRIER_US = 1.5  # assumed; `bench.lease.barriers` measures it
START_US = 1.0  # of a phase's first loads from the L2 cache: assumed
STEP_US = 0.5  # from the request to the L2 cache until a step's inputs are there: assumed
ATTENTION_US = {1: 2.8, 4: 3.1}  # by query heads of a program, loads included: of launches measured on an H100
DRAW_US = 6.2  # of a row, as ATTENTION_US
ARRIVAL_US = 1.0  # from the last part of a sum to its being read again: assumed
CLOCKS_PER_US = 1755
SHARED_BYTES_PER_CLOCK = 128  # of shared memory, by one program; conflicts of banks are not counted
PRODUCT_CLOCKS = 9.5  # of a tensor core instruction: 400 TFLOP/s of `mma.sync` in bfloat16, assumed
VALUE, FLOAT = 2, 4  # bytes
PROGRAMS = 132
PREFETCH_CLOCKS = 40  # of a program, to prefetch a piece of weights: counted in the compiled code
PARTS = 4  # of a multiprocessor, each with tensor cores and warps of its own


def frame_us(shape: DepthShape, weights: str, rows: int) -> float:
    """Of a frame of `rows` rows on an H100. weights: as `depth_counts.weights_of` names them."""
    clock = memory = 0.0  # until when phases and memory have run
    arrival: dict[Phase, float] = {}
    phases = list(phases_of(shape.layers, shape.codebooks))
    for index, phase in enumerate(phases):
        work_us = _work_us(phase, shape, weights, rows)
        if (size := _weight_bytes(phase, shape)) and phase not in arrival:  # not prefetched
            memory = max(clock, memory) + size / BYTES_PER_US
            arrival[phase] = memory
        clock = max(clock + work_us, arrival.get(phase, 0.0))
        for later in phases[index + 1 :]:
            if not _prefetches(phase, later, shape):
                break
            if later not in arrival and (size := _weight_bytes(later, shape)):
                memory = max(clock, memory) + size / BYTES_PER_US
                arrival[later] = memory
                clock += -(-size // (PIECE.value * PROGRAMS)) * PREFETCH_CLOCKS / CLOCKS_PER_US
        clock += BARRIER_US
    return clock


def _weight_bytes(phase: Phase, shape: DepthShape) -> int:
    inputs, outputs = _product(phase, shape)
    value = 1 if shape.scaled and phase[0] != HEAD.value else VALUE
    return value * inputs * outputs * (2 if phase[0] == GATE_UP.value else 1)


def _product(phase: Phase, shape: DepthShape) -> tuple[int, int]:
    return {
        QKV.value: (shape.dim, shape.qkv_rows),
        OUT.value: (shape.attended, shape.dim),
        GATE_UP.value: (shape.dim, shape.ffn),
        DOWN.value: (shape.ffn, shape.dim),
        HEAD.value: (shape.dim, shape.codebook_size),
    }.get(phase[0], (0, 0))


def _work_us(phase: Phase, shape: DepthShape, weights: str, rows: int) -> float:
    """Beside the weights' way from memory."""
    number, codebook, _, _ = phase
    if number == ATTEND.value:
        return ATTENTION_US[shape.members] * -(-rows * (shape.heads // shape.members) // PROGRAMS)
    if number in (TAKE.value, DRAW.value):
        return (DRAW_US if number == DRAW.value else 0.0) * -(-rows // PROGRAMS)
    inputs, outputs = _product(phase, shape)
    here = rows * (2 if codebook == 1 and number != HEAD.value else 1)
    cuts = shape.cuts
    cut = {QKV.value: cuts.qkv, OUT.value: cuts.out, GATE_UP.value: cuts.gate_up, DOWN.value: cuts.down}.get(
        number, cuts.heads
    )
    row_blocks = -(-here // cut.rows)
    splits = shape.splits if number == DOWN.value else 1
    tasks = outputs // cut.block * splits * row_blocks
    turns = -(-tasks // PROGRAMS)
    here_each = min(here, cut.rows)  # rows that are there
    row_bytes = inputs if shape.rounded and number != HEAD.value else VALUE * inputs
    read_each = (_weight_bytes(phase, shape) * cut.block // outputs + here_each * row_bytes) // splits
    part = VALUE if shape.rounded else FLOAT
    part_each = part * here_each * cut.block if splits > 1 else 0  # of a sum: written by each, read by the last
    work = kept_work(weights, shape.row_block, number)
    together = shape.cuts.warps // PARTS  # warps of a part, which issues one instruction a clock
    clocks = max(
        work.clocks,
        together * work.instructions,
        together * work.products * PRODUCT_CLOCKS,
        shape.cuts.warps * work.shared_bytes / SHARED_BYTES_PER_CLOCK,
    )
    product_us = START_US + max(
        tasks * (read_each + 2 * part_each) / CACHE_BYTES_PER_US,
        turns * read_each / PROGRAM_BYTES_PER_US,
        turns * steps_of(number, shape) * STEP_US / (cut.stages - 1),
        turns * clocks / CLOCKS_PER_US,
    )
    if splits > 1:
        product_us += ARRIVAL_US + splits * part_each / PROGRAM_BYTES_PER_US
    return product_us


def _prefetches(phase: Phase, later: Phase, shape: DepthShape) -> bool:
    """Whether weights of `later` are on their way once `phase` has ended; as `prefetch_next` has it."""
    number, _, layer, _ = phase
    prefetched = {
        TAKE.value: (QKV, ATTEND, OUT, GATE_UP),
        QKV.value: (ATTEND, OUT, GATE_UP),
        ATTEND.value: (ATTEND, OUT, GATE_UP),
        OUT.value: (GATE_UP,),
        GATE_UP.value: (DOWN,),
        DOWN.value: (QKV, ATTEND, OUT) if layer + 1 < shape.layers else (HEAD,),
        HEAD.value: (DRAW, ATTEND, OUT),
        DRAW.value: (ATTEND, OUT, GATE_UP),
    }[number]
    return later[0] in [one.value for one in prefetched]
