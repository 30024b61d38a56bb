"""Figures in a JSON file of bench/results. Each is written at once, so an interrupted run keeps those it has."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.machine import commit, cpu_name

Row = dict[str, object]


class Results:
    """The rows of one benchmark. Rows of earlier runs are kept until they are measured again.

    A file from another device, or under other conditions, is not comparable, and is started afresh.
    """

    def __init__(self, path: Path | None, benchmark: str, key: Sequence[str], conditions: Row) -> None:
        """path: None writes no file. key: the fields that identify a row. conditions: of all rows."""
        self._path, self._key = path, key
        self._head = {"benchmark": benchmark, "device": cpu_name(), **conditions}
        self._commit = commit()
        self.rows: list[Row] = []
        if path and path.exists():
            kept = json.loads(path.read_text())
            if differing := [name for name, value in self._head.items() if kept.get(name) != value]:
                print(f"{path} begins anew: it was of another {', '.join(differing)}", file=sys.stderr)
            else:
                self.rows = kept["rows"]

    def put(self, row: Row) -> None:
        """Updates the row with the same key, or appends a row."""
        same = next((kept for kept in self.rows if self._of(kept) == self._of(row)), None)
        if same is None:
            self.rows.append(same := {})
        same |= {**row, "commit": self._commit}
        if self._path:
            text = json.dumps({**self._head, "commit": self._commit, "rows": self.rows}, indent=1)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(text + "\n")

    def _of(self, row: Row) -> list[object]:
        return [row.get(name) for name in self._key]
