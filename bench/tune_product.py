"""Finds the fastest tile of each kernel of the fast step on this GPU, at csm-1b's shapes.

    python -m bench.tune_product --rows 1,64 --forms bf16,float8 --out tune.json

Needs a CUDA device. Candidates are compiled in parallel first; then each is timed by replays of a graph of launches
over different weights, so that the L2 cache holds none of them. Prints a table, writes every figure to --out as soon as
a kernel is done, and ends with one JSON line of the best.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.command import integers, parser_of, words
from csm_engine.execution.matrix import FLOAT8, Matrix
from csm_engine.execution.ops import triton_ops
from csm_engine.execution.ops.tile_shapes import BackboneShape, TileShape, row_block_of
from csm_engine.execution.sampling import SamplingRows

BF16 = torch.bfloat16
DTYPES = {"bf16": BF16, "float8": FLOAT8, "int8": torch.int8}
FAST_MEMORY = 400e6  # bytes of different weights in one graph: many times the L2 cache
FEWEST_LAUNCHES, MOST_LAUNCHES = 12, 64
REPLAYS = 7
MOST_PROCESSES = 16
FINALISTS = 3  # candidates of each kernel that are timed under dependent launch too


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix of csm-1b. outputs: of the product."""

    name: str
    outputs: int
    width: int
    gated: bool = False
    added: bool = False


PRODUCTS = (
    Product("depth gate_up", 8192, 1024, gated=True),
    Product("depth down", 1024, 8192, added=True),
    Product("depth qkv", 1536, 1024),
    Product("depth out", 1024, 1024, added=True),
    Product("head", 2048, 1024),
    Product("backbone gate_up", 8192, 2048, gated=True),
    Product("backbone down", 2048, 8192, added=True),
    Product("backbone qkv", 3072, 2048),
    Product("backbone out", 2048, 2048, added=True),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel at one batch with one candidate. kind: "product", "backbone", "depth" or "sampler"."""

    kind: str
    name: str
    rows: int
    form: str
    candidate: Any
    product: Product | None = None

    @property
    def group(self) -> tuple[str, str, int]:
        return self.name, self.form, self.rows


def product_candidates(product: Product, rows: int, form: str) -> Iterator[TileShape]:
    """Tiles that fit in shared memory and split the inputs evenly."""
    size, row_block = DTYPES[form].itemsize, row_block_of(rows)
    big = product.outputs * product.width >= 2**23
    tiles_of = {64: ((64, 4), (128, 4)), 32: ((128, 4),), 16: ((128, 2), (128, 4), (256, 4))}  # width block, warps
    blocks_of_outputs = (64, 32, 16) if product.gated else (64, 16) if big else (16, 32, 64)
    for output_block in blocks_of_outputs:
        for splits in (1, 2, 4, 8, 16) if product.added else (1,) if product.gated else (1, 2, 4, 8):
            if not 48 <= product.outputs // output_block * splits <= (256 if product.added and big else 512):
                continue
            for width_block, warps in tiles_of[output_block]:
                width_block //= size // 2 or 1
                stage = width_block * (output_block * size * (1 + product.gated) + row_block * 2)
                blocks = product.width // splits // width_block
                depths = [depth for depth in (3, 4, 6, 8) if depth * stage <= 200_000 and depth <= blocks + 1]
                for stages in depths[-2:]:
                    yield TileShape(output_block, row_block, width_block, splits, 1, warps, stages)


def cases(rows_list: list[int], forms: list[str], kinds: list[str], only: list[str]) -> list[Case]:
    found = []
    for rows in rows_list:
        if "product" in kinds:
            for form in forms:
                for product in (one for one in PRODUCTS if not only or any(name in one.name for name in only)):
                    for shape in product_candidates(product, rows, form):
                        found.append(Case("product", product.name, rows, form, shape, product))
        if "backbone" in kinds:
            for split, block, warps, stages in (
                (64, 64, 4, 2), (128, 64, 4, 3), (128, 128, 4, 2), (128, 64, 2, 3), (128, 32, 2, 4), (256, 64, 4, 3),
                (256, 128, 4, 2), (256, 64, 2, 4), (256, 128, 8, 2),
            ):  # fmt: skip
                found.append(Case("backbone", "backbone", rows, "bf16", BackboneShape(split, block, warps, stages)))
        if "depth" in kinds:
            for position in (6, 14, 28):
                for warps in (1, 2, 4, 8):
                    name = f"depth at {position}"
                    found += [Case("depth", name, rows, "bf16", (position, warps, members)) for members in (1, 4)]
        if "sampler" in kinds:
            found += [Case("sampler", "sampler", rows, "bf16", warps) for warps in (2, 4, 8, 16)]
    return found


def launches(case: Case, copies: int | None = None) -> tuple[list[Callable[[], object]], float]:
    """(launches of a case on different memory, the bytes that one reads). copies: how many; None is as when timed."""
    device, rows = torch.device("cuda"), case.rows
    if case.kind == "product":
        product = case.product
        assert product is not None
        dtype, (n, k) = DTYPES[case.form], (product.outputs * (1 + product.gated), product.width)
        size = n * k * dtype.itemsize
        copies = copies or int(min(MOST_LAUNCHES, max(FEWEST_LAUNCHES, FAST_MEMORY // size)))
        memory = torch.empty(copies * n * k, device=device, dtype=dtype)
        weights = memory.view(copies, n, k)
        if copies > 1:  # random bits, finite in every type
            memory.view(torch.uint8).random_(0, 56)
        scale = None if dtype is BF16 else torch.full((n,), 0.01, device=device)
        x, out = torch.randn(rows, k, device=device, dtype=BF16), None
        out = torch.zeros(rows, product.outputs, device=device, dtype=BF16) if product.added else None
        around: dict[str, Any] = {"added": out} if product.added else {"norm": True, "eps": 1e-5}
        around |= {"gated": product.gated, "shape": case.candidate}

        def one(index: int) -> Callable[[], object]:
            matrix = Matrix(weights[index], scale, fused=True)
            return lambda: triton_ops.product(x, matrix, **around)

        return [one(index) for index in range(copies)], size
    copies = copies or FEWEST_LAUNCHES
    index = torch.arange(rows, device=device)
    if case.kind == "backbone":
        context, slots = 512, rows if rows >= 64 else 8 * rows
        qkv = torch.randn(rows, 48 * 64, device=device, dtype=BF16)
        caches = [torch.randn(2, slots, 2048, 8, 64, device=device, dtype=BF16) for _ in range(min(copies, 4))]
        rope, positions = torch.ones(2048, 32, 2, device=device), torch.full_like(index, context)

        def attention(keys: torch.Tensor, values: torch.Tensor) -> Callable[[], object]:
            return lambda: triton_ops.backbone_attention(
                qkv, keys, values, index, positions, rope, 32, shape=case.candidate
            )

        calls = [attention(keys, values) for keys, values in caches]
        return [calls[at % len(calls)] for at in range(copies)], rows * context * 512 * 4
    if case.kind == "depth":
        position, warps, members = case.candidate
        qkv, rope = torch.randn(rows, 12 * 128, device=device, dtype=BF16), torch.ones(32, 64, 2, device=device)
        keys, values = torch.randn(2, rows, 2, 32, 128, device=device, dtype=BF16)
        return [
            lambda: triton_ops.depth_attention(qkv, keys, values, position, rope, 8, warps=warps, members=members)
        ] * copies, rows * position * 1024
    logits, table = torch.randn(rows, 2048, device=device, dtype=BF16), torch.zeros(2051, 1024, device=device)
    sampling = SamplingRows(torch.full((rows,), 0.9, device=device), torch.full_like(index, 50), index)
    return [
        lambda: triton_ops.sample_and_feed(logits, sampling, index, index, 0, 2048, 2051, table, warps=case.candidate)
    ] * copies, rows * 4096


def compile_one(task: tuple[Case, bool]) -> str:
    """Compiles a candidate into Triton's cache, in a separate process. Returns the error, or ""."""
    case, dependent = task
    triton_ops.dependent_launch = dependent
    try:
        launches(case, copies=1)[0][0]()
        torch.cuda.synchronize()
    except Exception as error:  # a candidate that does not fit is left out
        return f"{type(error).__name__}: {error}"[:120]
    return ""


@torch.inference_mode()
def microseconds(case: Case, dependent: bool) -> tuple[float, float]:
    """(median time of one launch over replays, TB/s that it reads)"""
    triton_ops.dependent_launch = dependent
    calls, size = launches(case)
    calls[0]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    taken = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        taken.append(1000 * begin.elapsed_time(end) / len(calls))
    each = statistics.median(taken)
    return round(each, 2), round(size / each / 1e6, 2)


def as_json(candidate: Any) -> Any:
    return candidate if isinstance(candidate, int | tuple) else asdict(candidate)


def main() -> None:
    parser = parser_of("bench.tune_product", __doc__)
    parser.add_argument("--rows", type=integers, default=[1, 64])
    parser.add_argument("--forms", type=words, default=["bf16"], help=", ".join(DTYPES))
    parser.add_argument("--kinds", type=words, default=["product", "backbone", "depth", "sampler"])
    parser.add_argument("--only", type=words, default=[], help="products, by part of a name")
    parser.add_argument("--seconds", type=float, default=150, help="no more cases are timed after this")
    parser.add_argument("--out", type=Path, default=Path("tune.json"))
    parser.add_argument("--list", action="store_true", help="only count the candidates")
    arguments = parser.parse_args()
    began = time.monotonic()
    every = cases(arguments.rows, arguments.forms, arguments.kinds, arguments.only)
    if arguments.list:
        print(len(every))
        return
    with multiprocessing.get_context("fork").Pool(
        min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    ) as pool:  # before this process touches CUDA
        told = pool.map(compile_one, [(case, False) for case in every], chunksize=1)
        print(f"{len(every)} candidates compiled in {time.monotonic() - began:.0f} s, {sum(map(bool, told))} failed")
        print(next(filter(None, told), ""), flush=True)
        figures: dict[tuple[str, str, int], list[tuple[float, float, Case, str]]] = {}
        for case, wrong in zip(every, told, strict=True):
            if wrong or time.monotonic() - began > arguments.seconds:
                continue
            figures.setdefault(case.group, []).append((*microseconds(case, False), case, "plain"))
            if case is every[-1] or every[every.index(case) + 1].group != case.group:
                save(arguments.out, figures)
        best = [entry[2] for group in figures.values() for entry in sorted(group, key=lambda e: e[0])[:FINALISTS]]
        told = pool.map(compile_one, [(case, True) for case in best], chunksize=1)
        for case, wrong in zip(best, told, strict=True):
            if not wrong and time.monotonic() - began <= arguments.seconds:
                figures[case.group].append((*microseconds(case, True), case, "dependent"))
    save(arguments.out, figures)
    summary = {}
    for group, entries in figures.items():
        print(*group)
        entries.sort(key=lambda entry: entry[0])
        for us, rate, case, launch in entries[:6] + [entry for entry in entries[6:] if entry[3] == "dependent"]:
            print(f"  {us:>7} us {rate:>5} TB/s {launch:>9}  {as_json(case.candidate)}")
        us, rate, case, launch = next(entry for entry in entries if entry[3] == "plain")
        summary[" ".join(map(str, group))] = {"us": us, "tb_per_s": rate, "candidate": as_json(case.candidate)}
    print(json.dumps({"benchmark": "tune_product", "seconds": round(time.monotonic() - began), "best": summary}))


def save(path: Path, figures: dict[tuple[str, str, int], list[tuple[float, float, Case, str]]]) -> None:
    path.write_text(
        json.dumps(
            [
                {"kernel": name, "form": form, "rows": rows, "us": us, "tb_per_s": rate, "launch": launch,
                 "candidate": as_json(case.candidate)}
                for (name, form, rows), entries in figures.items()
                for us, rate, case, launch in entries
            ]
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
