"""Figures in a JSON file of bench/results, written as they come: what is cut off has its figures up to there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.machine import commit, cpu_name

Row = dict[str, object]


class Results:
    """The rows of one benchmark. Those of earlier runs stay until they are measured again.

    Rows of another device, or under other conditions, are not comparable: a file with such begins anew.
    """

    def __init__(self, path: Path | None, benchmark: str, key: Sequence[str], conditions: Row) -> None:
        """path: None keeps nothing. key: the fields that tell a row from the others. conditions: of all rows."""
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
        """Into the row with the same key, or at the end."""
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
