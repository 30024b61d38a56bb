"""The first part of a lease: a short check, and a line, for each question that only a device can answer.

    python3 -m bench.lease.smoke

A check that fails stops no other, unless the device is lost with it. Those that a fault might lose it with come last.
Where `ok` is false, `error` says why, and `parts.log` has the traceback.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable

import torch

from bench.lease.options import Given, opened, parser
from bench.lease.smoke import codec_checks, device_checks, engine_checks
from bench.timing import synchronize

Checks = tuple[Callable[[Given], dict[str, object]], ...]
CHECKS: Checks = (
    device_checks.machine,
    device_checks.programs_are_imported,
    device_checks.copies_wait_for_nothing,
    device_checks.a_graph_is_captured_beside_another_thread,
    device_checks.graphs_of_a_pool_share_memory,
    device_checks.a_replay_is_one_launch,
    codec_checks.attention_has_its_one_kernel,
    codec_checks.mimi_is_that_of_a_cpu,
    codec_checks.mark_is_that_of_a_cpu,
    engine_checks.weights_of_eight_bits_are_widened_exactly,
    engine_checks.captured_pass_and_step_equal_eager,
)
ONLY_ON_A_GPU: Checks = (
    engine_checks.barriers_beside_other_work,
    engine_checks.depth_kernel_equals_its_phases,
    engine_checks.depth_kernel_over_float8_equals_its_phases,
    engine_checks.depth_kernel_over_int8_equals_its_phases,
)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    figures = opened("smoke", arguments)
    given = Given.by(arguments)
    wrong = []
    for check in (*CHECKS, *(ONLY_ON_A_GPU if given.on_gpu else ())):
        name, began = check.__name__, time.monotonic()
        try:
            with (
                torch.inference_mode()
            ):  # like all captures of the project, as torch keeps what it makes for the first one
                told = {"ok": True} | check(given)
            synchronize(given.device)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            told = {"ok": False, "error": f"{type(error).__name__}: {error}"[:500]}
            wrong.append(name)
        figures.add(check=name, seconds=round(time.monotonic() - began, 1), **told)
        if is_lost(given.device):
            figures.add(check=name, device_lost=True)
            break
    if wrong:
        sys.exit(f"failed: {', '.join(wrong)}")


def is_lost(device: torch.device) -> bool:
    """Whether a kernel's error has lost the device for this process."""
    try:
        synchronize(device)
    except RuntimeError:
        return True
    return False


if __name__ == "__main__":
    main()
