"""Part of a lease: where the time of a captured frame goes, kernel by kernel, as the device itself reports it.

    python3 -m bench.lease.kernel_profile --forms plain,fused --batches 1,64

Random weights. A table of kernels by their share of the frame is printed, and each form and batch is written as soon as
it is measured.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import defaultdict

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from bench.arms import Ours
from bench.command import integers
from bench.frame_step import SAMPLING, make_prompts
from bench.lease.forms import FORMS, form_names, new_weights, release_memory
from bench.lease.options import Given, opened, parser
from bench.timing import synchronize
from csm_engine.execution.ops import triton_ops
from csm_engine.execution.ops.prefetch import launch_prefetch

FRAMES = 5


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--forms",
        type=form_names,
        default=["plain", "depth-kernel", "float8-depth-kernel", "int8-depth-kernel", "fused", "float8"],
        help=", ".join(FORMS),
    )
    options.add_argument("--batches", type=integers, default=[1, 64])
    options.add_argument("--context", type=int, default=512)
    options.add_argument("--dependent-launch", action="store_true", help="kernels start while the one before them ends")
    options.add_argument("--no-prefetch", action="store_true", help="no launch prefetches what later ones read")
    arguments = options.parse_args()
    launch_prefetch.enabled = not arguments.no_prefetch
    triton_ops.dependent_launch = arguments.dependent_launch
    figures = opened("kernel_profile", arguments)
    with torch.inference_mode():
        for form in arguments.forms:
            for batch in arguments.batches:
                release_memory(arguments.device)
                row = profile(Given.by(arguments), form, batch, arguments.context)
                print_table(row)
                figures.add(**row)


def profile(given: Given, form: str, batch: int, context: int) -> dict[str, object]:
    """Times of one frame: its replay by the clock, and its kernels by the profiler (on a CPU, its operations)."""
    device, on_gpu = given.device, given.on_gpu
    arm = Ours(new_weights(given, form, batch), batch, kv_dtype=FORMS[form].kv_dtype)
    arm.start(make_prompts(given.model, batch, context, device, given.dtype), SAMPLING)
    for _ in range(3):
        arm.frame()
    synchronize(device)
    frame_ms = []
    for _ in range(20):
        begin = time.perf_counter()
        arm.frame()
        synchronize(device)
        frame_ms.append(1000 * (time.perf_counter() - begin))
    activity = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], acc_events=True) as profiler:
        for _ in range(FRAMES):
            arm.frame()
        synchronize(device)
    kernels: dict[str, list[float]] = defaultdict(list)
    for event in profiler.events():
        if on_gpu and event.device_type == DeviceType.CUDA:
            kernels[short_name(event.name)].append(event.device_time)
        elif not on_gpu and event.self_cpu_time_total:
            kernels[short_name(event.name)].append(event.self_cpu_time_total)
    table = {
        name: {"launches": round(len(times) / FRAMES, 1), "us": round(sum(times) / FRAMES, 1),
               "us_each": round(statistics.median(times), 2)}
        for name, times in sorted(kernels.items(), key=lambda item: -sum(item[1]))
    }  # fmt: skip
    return {"form": form, "batch": batch, "context": context, "frame_ms": round(statistics.median(frame_ms), 3),
            "kernels_ms": round(sum(sum(times) for times in kernels.values()) / FRAMES / 1000, 3),
            "launches": round(sum(len(times) for times in kernels.values()) / FRAMES), "kernels": table}  # fmt: skip


def short_name(name: str) -> str:
    """Without template arguments and parameters."""
    return re.sub(r"[<(].*", "", name.removeprefix("void "))[-60:] if name.startswith("void at::") else name[:90]


def print_table(row: dict[str, object]) -> None:
    measured = f"{row['frame_ms']} ms a frame, {row['kernels_ms']} in {row['launches']} kernels"
    print(f"{row['form']} batch {row['batch']}: {measured}")
    for name, figures in list(row["kernels"].items())[:22]:  # type: ignore[attr-defined]
        print(f"  {figures['us']:>9} us  {figures['launches']:>6} x {figures['us_each']:>7} us  {name}", flush=True)


if __name__ == "__main__":
    main()
