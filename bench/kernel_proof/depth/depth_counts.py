"""What a warp does for one tile of each product of the depth decoder's kernel: counted in compiled code, and as kept.

`python -m bench.kernel_proof --count` counts and writes depth_counts.json, which depth_model.py reads. Every other run
complains of compiled code that does more or less than is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, fields
from functools import cache
from pathlib import Path

from bench.kernel_proof.depth.tile_work import TileWork, tile_work
from bench.kernel_proof.operations import DEPTH_FRAME
from bench.kernel_proof.pretended_gpu import Launch
from csm_engine.execution.ops.depth.depth_shape import DepthShape
from csm_engine.execution.ops.depth.frame_kernels import DOWN, GATE_UP, HEAD, OUT, QKV

KEPT = Path(__file__).with_name("depth_counts.json")
TOLERANCE = 0.05
_PRODUCTS = {"QKV": QKV, "OUT": OUT, "GATE_UP": GATE_UP, "DOWN": DOWN, "HEAD": HEAD}


def steps_of(phase: int, shape: DepthShape) -> int:
    """Of a tile of a product's phase. Raises: KeyError for a phase without a product."""
    return {
        QKV.value: shape.dim // shape.qkv_step,
        OUT.value: shape.attended // shape.out_step,
        GATE_UP.value: shape.dim // shape.gate_up_step,
        DOWN.value: shape.ffn // shape.splits // shape.down_step,
        HEAD.value: shape.dim // shape.heads_step,
    }[phase]


def weights_of(launch: Launch) -> str:
    """The type of the layers' matrices: bfloat16, float8_e4m3fn or int8."""
    return str(launch.tensors["qkv_weight"].dtype).removeprefix("torch.")


def counted(launch: Launch, text: str) -> dict[str, list[int]]:
    """By weights, rows of a tile and product. text: of `nvdisasm -c -hex`. Empty for any other kernel."""
    if launch.name != DEPTH_FRAME:
        return {}
    shape: DepthShape = launch.options["S"]
    work = tile_work(text, {phase.value: steps_of(phase.value, shape) for phase in _PRODUCTS.values()})
    return {_key(weights_of(launch), shape.row_block, phase): list(astuple(one)) for phase, one in work.items()}


def kept_work(weights: str, row_block: int, phase: int) -> TileWork:
    """The kept counts. Raises: KeyError for a tile that was never counted."""
    return TileWork(*_kept()[_key(weights, row_block, phase)])


def keep(counts: Mapping[str, list[int]], version: str) -> None:
    """version: of Triton, whose code they are of."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in counts.items())
    KEPT.write_text(f'{{\n "triton": {json.dumps(version)},\n "counts": {{\n{lines}\n }}\n}}\n', encoding="utf-8")
    _kept.cache_clear()


def complaints(counts: Mapping[str, list[int]], kept: Mapping[str, list[int]] | None = None) -> list[str]:
    """A line for each number of compiled code that is further than TOLERANCE from the one that the model takes."""
    known, wrong = _kept() if kept is None else kept, []
    for name, numbers in counts.items():
        if name not in known:
            wrong.append(f"{name}: the model has no counts; `python -m bench.kernel_proof --count` keeps them")
            continue
        for what, now, then in zip(fields(TileWork), numbers, known[name], strict=True):
            if abs(now - then) > TOLERANCE * then:
                wrong.append(
                    f"{name}: {what.name} of a tile are {now} in the compiled code, {then} in the model;"
                    f" {TOLERANCE:.0%} apart at most"
                )
    return wrong


@cache
def _kept() -> dict[str, list[int]]:
    counts: dict[str, list[int]] = json.loads(KEPT.read_text(encoding="utf-8"))["counts"]
    return counts


def _key(weights: str, row_block: int, phase: int) -> str:
    (name,) = (name for name, product in _PRODUCTS.items() if product.value == phase)
    return f"{weights}, {row_block} rows, {name}"
