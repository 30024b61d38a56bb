"""Part of a lease: the two programs that decide about one kernel for the depth decoder.

    python3 -m bench.lease.barriers

docs/decisions/depth-decoder-kernel.md says what they decide.

First the barriers of a frame in one cooperative launch, alone and in a captured graph. Then as many rounds as a frame
has passes, which read 227 MB each in parts: without barriers, with one after each part, and with each program's next
part prefetched. A pass has 226 MB of weights. `sizes.py` takes the numbers from the kernel. A barrier looks a
bounded number of times and then gives up: a launch that would hang ends, and its line says so in place of a time.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.lease.barriers.sizes import BARRIERS, BLOCK, BLOCKS, PARTS, ROUNDS
from bench.lease.figures import Figures
from bench.lease.options import opened, parser

MOST_BARRIER_US, MOST_ROUND_US = 3.0, 130.0  # above these the design is dropped
REPEATS = 7
_BUSY_CYCLES = 2_000_000  # a millisecond


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--programs", type=int, help="of a launch; one for each multiprocessor by default")
    arguments = options.parse_args()
    device: torch.device = arguments.device
    on_gpu = device.type == "cuda"
    if not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":  # what imports triton decides for the whole process
        again = [sys.executable, "-m", "bench.lease.barriers", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"TRITON_INTERPRET": "1"})
    figures = opened("barriers", arguments)
    programs = arguments.programs
    if programs is None:
        programs = torch.cuda.get_device_properties(device).multi_processor_count if on_gpu else 1
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    barriers(figures, counter, programs, BARRIERS if on_gpu else 4, device)
    stream(figures, counter, programs, device)


def barriers(figures: Figures, counter: Tensor, programs: int, number: int, device: torch.device) -> None:
    """`number` barriers of one and of two programs a multiprocessor, launched and replayed from a graph."""
    from bench.lease.barriers.kernels import run_barriers

    on_gpu = device.type == "cuda"
    for many in (programs, 2 * programs) if on_gpu else (programs,):
        for warps in (4, 8):
            left = torch.empty(many, dtype=torch.int32, device=device)
            for captured in (False, True) if on_gpu else (False,):
                told = timed(partial(run_barriers, counter, left, number, warps), left, captured, device)
                if "us" in told:
                    each = told["us"] / number
                    told |= {"us_a_barrier": round(each, 3)} | stands(each, MOST_BARRIER_US, device)
                figures.add(programs=many, warps=warps, barriers=number, captured=captured, **told)


def stream(figures: Figures, counter: Tensor, programs: int, device: torch.device) -> None:
    """Reads in parts, in every way. Each program's sum shows that it has read all."""
    from bench.lease.barriers.kernels import run_stream

    on_gpu = device.type == "cuda"
    rounds, parts, block = (ROUNDS, PARTS, BLOCK) if on_gpu else (2, 3, 256)
    data = torch.ones(parts, programs, BLOCKS, block, dtype=torch.int32, device=device)
    size = data.numel() * data.element_size()
    left, sums = (torch.empty(programs, dtype=torch.int32, device=device) for _ in range(2))
    for with_barriers, prefetch in ((False, False), (True, False), (True, True)) if on_gpu else ((True, False),):
        launch = partial(run_stream, counter, left, data, sums, rounds, barriers=with_barriers, prefetch=prefetch)
        told = timed(launch, left, False, device)
        if "us" in told:
            each = told["us"] / rounds
            told |= {"us_a_round": round(each, 2), "tb_per_s": round(size / each / 1e6, 3)}
            told |= {"read_all": bool((sums == rounds * parts * BLOCKS * block).all())}
            told |= stands(each, MOST_ROUND_US, device) if with_barriers else {}
        figures.add(
            programs=programs,
            megabytes_a_round=round(size / 1e6, 1),
            barriers_a_round=parts if with_barriers else 0,
            prefetch=prefetch,
            **told,
        )


def stands(us: float, most_us: float, device: torch.device) -> dict[str, bool]:
    """Whether the design stands, where a GPU was measured."""
    return {"design_stands": us <= most_us} if device.type == "cuda" else {}


def timed(launch: Callable[[], None], left: Tensor, captured: bool, device: torch.device) -> dict[str, Any]:
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
    torch.cuda._sleep(_BUSY_CYCLES)  # so that the host's part of a launch is over by then
    before.record()
    run()
    after.record()
    after.synchronize()
    return 1000 * before.elapsed_time(after)


if __name__ == "__main__":
    main()
