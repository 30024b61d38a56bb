"""Part of a lease: the two programs that decide about one kernel for the depth decoder (docs/depth-decoder-kernel.md).

    python3 -m bench.lease.barriers

First 558 barriers in one cooperative launch, alone and in a captured graph. Then 31 rounds that read 226 MB each, in 18
parts: without barriers, with one behind each part, and with each program's next part asked for ahead. A barrier looks a
bounded number of times and then gives up: a launch that would hang ends, and its line says so in place of a time.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.lease.options import opened, parser

BARRIERS, ROUNDS, PARTS = 558, 31, 18
MOST_BARRIER_US, MOST_ROUND_US = 3.0, 130.0  # above these the design is dropped
BLOCK, BLOCKS = 8192, 3  # int32 of one load, and loads of a program in a part: 132 programs read 233 MB a round
PATIENCE = 2**20  # looks; a second or so
REPEATS = 7


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--programs", type=int, help="of a launch; one for each multiprocessor by default")
    arguments = options.parse_args()
    device: torch.device = arguments.device
    on_gpu = device.type == "cuda"
    if not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":  # what imports triton decides for the whole process
        again = [sys.executable, "-m", "bench.lease.barriers", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"TRITON_INTERPRET": "1"})
    from bench.lease.barrier_kernels import barriers_kernel

    figures = opened("barriers", arguments)
    programs = arguments.programs
    if programs is None:
        programs = torch.cuda.get_device_properties(device).multi_processor_count if on_gpu else 1
    number, rounds, parts, block = (BARRIERS, ROUNDS, PARTS, BLOCK) if on_gpu else (4, 2, 3, 64)
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    for many in (programs, 2 * programs) if on_gpu else (programs,):
        for warps in (4, 8):
            left = torch.empty(many, dtype=torch.int32, device=device)

            def barriers(many: int = many, warps: int = warps, left: torch.Tensor = left) -> None:
                barriers_kernel[(many,)](
                    counter, left, number, PATIENCE, num_warps=warps, launch_cooperative_grid=True
                )

            for captured in (False, True) if on_gpu else (False,):
                told = timed(barriers, left, captured, device)
                if "us" in told:
                    each = told["us"] / number
                    told |= {"us_a_barrier": round(each, 3)} | stands(each, MOST_BARRIER_US, device)
                figures.add(programs=many, warps=warps, barriers=number, captured=captured, **told)
    stream(figures, counter, programs, rounds, parts, block, device)


def stream(
    figures: Any, counter: torch.Tensor, programs: int, rounds: int, parts: int, block: int, device: torch.device
) -> None:
    """Reads in parts, in every way. Each program's sum shows that it has read all."""
    from bench.lease.barrier_kernels import stream_kernel

    data = torch.ones(parts, programs, BLOCKS, block, dtype=torch.int32, device=device)
    left, sums = (torch.empty(programs, dtype=torch.int32, device=device) for _ in range(2))
    warps = 8
    ways = ((False, False), (True, False), (True, True)) if device.type == "cuda" else ((False, False), (True, False))
    for with_barriers, prefetch in ways:

        def launch(with_barriers: bool = with_barriers, prefetch: bool = prefetch) -> None:
            stream_kernel[(programs,)](
                counter, left, data, sums, rounds, PATIENCE,
                PARTS=parts, BLOCK=block, BLOCKS=BLOCKS, THREADS=32 * warps, BARRIERS=with_barriers, PREFETCH=prefetch,
                num_warps=warps, launch_cooperative_grid=True,
            )  # fmt: skip

        told = timed(launch, left, False, device)
        right = bool((sums == rounds * parts * BLOCKS * block).all())
        if "us" in told:
            each = told["us"] / rounds
            size = data.numel() * data.element_size()
            told |= {"us_a_round": round(each, 2), "tb_per_s": round(size / each / 1e6, 3)}
            if with_barriers:
                told |= stands(each, MOST_ROUND_US, device)
        figures.add(
            programs=programs,
            megabytes_a_round=round(data.numel() * data.element_size() / 1e6, 1),
            barriers_a_round=parts if with_barriers else 0,
            prefetch=prefetch,
            read_all=right,
            **told,
        )


def stands(us: float, most_us: float, device: torch.device) -> dict[str, bool]:
    """Whether the design stands, where a GPU was measured."""
    return {"design_stands": us <= most_us} if device.type == "cuda" else {}


def timed(launch: Callable[[], None], left: torch.Tensor, captured: bool, device: torch.device) -> dict[str, Any]:
    """Microseconds of a launch, the median; or what went wrong. left: as the kernels fill it."""
    try:
        run = launch
        launch()
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                launch()
            run = graph.replay
        times = [_once(run, device) for _ in range(REPEATS)]
    except RuntimeError as error:
        return {"error": str(error).splitlines()[0]}
    given_up = int((left == 0).sum())
    return {"gave_up": given_up} if given_up else {"us": round(statistics.median(times), 2)}


def _once(run: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return 1e6 * (time.perf_counter() - began)
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    after.synchronize()
    return 1000 * before.elapsed_time(after)


if __name__ == "__main__":
    main()
