"""Figures of a lease. Each is written to a file as soon as it is measured, so a lease that ends early loses none.

A line is one JSON object: the part, the seconds since its start, and what was measured. It knows no device.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from bench.listeners.percentiles import spread


class Figures:
    """A file of figures to append to, by several parts one after the other."""

    def __init__(self, path: Path, part: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._part, self._began = path, part, time.monotonic()

    def add(self, **figures: object) -> None:
        """Writes a line and prints it. The line is on disk when this returns."""
        line = json.dumps({"part": self._part, "at_s": round(time.monotonic() - self._began, 1)} | figures)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)


def spread_ms(seconds: Iterable[float]) -> dict[str, float] | None:
    """p50, p95 and max in milliseconds."""
    return spread(seconds, (50, 95), digits=3)


def read(path: Path) -> list[dict[str, object]]:
    """Every line so far; none if there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
