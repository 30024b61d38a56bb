"""Milliseconds of a frame by its operations and bytes: a model, fitted to one measured profile.

A launch of a class takes `fixed + row x batch` microseconds beside its bytes at the device's copy bandwidth. There is a
gap before every launch. `fixed` and `row` are fitted by class to the profile of an H100 (non-negative least squares).
The gap is the median of a frame's time beyond its kernels. A vendor's operation that launches two kernels counts as one
here, with the time of both. A kernel that the profile does not have takes the median time of the others; such a figure
is marked.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.kernel_proof.operations import DEPTH_FRAME, OTHER, PRODUCT, Operations
from bench.kernel_proof.prefetch_model import saved_us
from bench.kernel_proof.pretended_gpu import Launch

PROFILE = Path("bench/results/kernel_profile_csm_1b_h100.json")
FITTED = Path("bench/kernel_proof/time_model.json")
COPY_BYTES_PER_US = 2.76e6  # read and written by a large copy on that H100
PREFETCHED = "bytes prefetched"
_VENDOR = ("nvjet", "cutlass", "cublas", "gemv", "splitK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of a launch beside its bytes. `reads`: whether its bytes count; not if it is faster than that."""

    fixed: float
    row: float
    reads: bool = True


@dataclass(frozen=True, slots=True)
class TimeModel:
    """costs: by class of operations; gap: microseconds before a launch."""

    costs: Mapping[str, Cost]
    gap: float

    def frame_ms(self, operations: Operations, batch: int) -> float:
        total = 0.0
        for name, number in operations.counts.items():
            if name == DEPTH_FRAME:
                total += sum(depth_frame_us(launch) for launch in operations.launches if launch.name == name)
                continue
            cost = self.costs.get(name) or self._unknown
            total += number * (self.gap + cost.fixed + cost.row * batch)
            total += operations.bytes[name] / COPY_BYTES_PER_US if cost.reads else 0.0
        return (total - self.saved_us(operations, batch)) / 1000

    def saved_us(self, operations: Operations, batch: int) -> float:
        """Microseconds that prefetching saves, by prefetch_model.py."""

        def beside_bytes(name: str) -> float:
            cost = self.costs.get(name) or self._unknown
            return self.gap + cost.fixed + cost.row * batch

        return saved_us(operations.launches, operations.traffic, beside_bytes, COPY_BYTES_PER_US)

    def unknown(self, operations: Operations) -> list[str]:
        """Classes that the profile has no time of, and PREFETCHED if launches prefetch.

        The depth decoder's frame and PREFETCHED are models of their own.
        """
        prefetched = {PREFETCHED} if any(one.prefetched for one in operations.traffic) else set()
        return sorted(prefetched | set(operations.counts) - set(self.costs))

    @property
    def _unknown(self) -> Cost:
        costs = list(self.costs.values())
        return Cost(statistics.median(c.fixed for c in costs), statistics.median(c.row for c in costs))


def depth_frame_us(launch: Launch) -> float:
    """Microseconds of the kernel for the depth decoder's frame, by depth_model.py."""
    from bench.kernel_proof.depth.depth_counts import weights_of  # needs triton
    from bench.kernel_proof.depth.depth_model import frame_us

    return frame_us(launch.options["S"], weights_of(launch), len(launch.tensors["codes"]))


def class_of(kernel: str) -> str:
    """The class of a kernel's name in the profile."""
    if any(word in kernel for word in _VENDOR):
        return PRODUCT
    return kernel if kernel.endswith("_kernel") and "::" not in kernel else OTHER


def profile_rows() -> list[dict[str, Any]]:
    """Reads the result that `bench.lease.kernel_profile` wrote."""
    rows: list[dict[str, Any]] = json.loads(PROFILE.read_text(encoding="utf-8"))["rows"]
    return rows


def fit(rows: list[dict[str, Any]], counted: Mapping[tuple[str, int], Operations]) -> TimeModel:
    """rows: of the profile; counted: the operations of each row's (form, batch), of the code that was profiled."""
    seen: dict[str, list[Point]] = defaultdict(list)
    gaps = []
    for row in rows:
        operations, batch = counted[row["form"], row["batch"]], int(row["batch"])
        gaps.append(1000 * (row["frame_ms"] - row["kernels_ms"]) / row["launches"])
        times: dict[str, float] = defaultdict(float)
        for kernel, figures in row["kernels"].items():
            times[class_of(kernel)] += figures["us"]
        for name, us in times.items():
            if number := operations.counts[name]:
                seen[name].append(
                    Point(us / number, operations.bytes[name] / COPY_BYTES_PER_US / number, number, batch)
                )
    return TimeModel({name: _fitted(points) for name, points in seen.items()}, statistics.median(gaps))


@dataclass(frozen=True, slots=True)
class Point:
    """us: of a launch, measured; read_us: of its bytes at the copy bandwidth."""

    us: float
    read_us: float
    launches: int
    batch: int


def _fitted(points: list[Point]) -> Cost:
    """Fits `fixed + row x batch` by least squares, neither below zero, weighted by the number of launches."""
    reads = all(point.us > point.read_us for point in points)
    rest = np.array([point.us - (point.read_us if reads else 0.0) for point in points])
    weight = np.sqrt([point.launches for point in points])
    batch = np.array([float(point.batch) for point in points])
    slope = batch if len(set(batch)) > 1 else np.zeros_like(batch)  # one batch shows none
    from scipy.optimize import nnls  # takes a second

    (fixed, row), _ = nnls(np.stack([weight, slope * weight], axis=1), rest * weight)
    return Cost(float(fixed), float(row), reads)


def to_json(model: TimeModel) -> dict[str, Any]:
    costs = {name: [round(cost.fixed, 3), round(cost.row, 5), cost.reads] for name, cost in sorted(model.costs.items())}
    return {"gap_us": round(model.gap, 3), "fixed_row_us_and_reads": costs}


def from_json(values: Mapping[str, Any]) -> TimeModel:
    return TimeModel({name: Cost(*pair) for name, pair in values["fixed_row_us_and_reads"].items()}, values["gap_us"])
