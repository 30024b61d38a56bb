"""How many threads a model gets. OpenMP, and so torch, counts the machine's CPUs and knows no limit of a container.

More threads than the limit use it up at the beginning of each 100 ms, and the kernel stops the process for the rest.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

log = logging.getLogger("csm.process")


def choose_threads(asked: int, of_torch: int) -> int:
    """asked: --threads. of_torch: torch's own choice, the CPUs that the process may run on, or OMP_NUM_THREADS"""
    if asked:
        return asked
    limit = cpu_limit()
    if limit >= of_torch:
        return of_torch
    log.info(
        "torch uses %d threads of %d, for the container may use %g CPUs", threads := max(1, int(limit)), of_torch, limit
    )
    return threads


def usable_cpus() -> int:
    """CPUs that the process may run on, or fewer by the container's limit; at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(cpus, cpu_limit())))


def cpu_limit(root: Path = Path("/")) -> float:
    """CPUs that the process's control groups, of version 1 or 2, grant it in the mean; infinity without a limit.

    root: of the file system
    """
    return min(_limits(root), default=math.inf)


def _limits(root: Path) -> Iterator[float]:
    """Of the process's group and those around it. In a container they are mounted at the top, whatever the path is."""
    mounts = root / "sys/fs/cgroup"
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            if not controllers:  # version 2
                yield _ratio(mounts / group.relative_to("/") / "cpu.max")
            elif "cpu" in controllers.split(","):
                folder = mounts / "cpu" / group.relative_to("/")
                yield _ratio(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _ratio(*files: Path) -> float:
    """quota / period, in one file or two; infinity for no limit, which is "max" or -1."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf
