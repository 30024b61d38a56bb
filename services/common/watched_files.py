"""Files that are read at the start and again when they change. It knows no format.

A change that happens while they are read is noticed, so what was loaded is always what was on disk at one time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

ATTEMPTS = 3

_Stamp = tuple[int, int, int] | None


class WatchedFiles(Generic[T]):
    """A set of files and the function that loads them."""

    def __init__(self, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """load: reads all of `paths`; raises OSError when it cannot use them"""
        self._paths = paths
        self._load = load
        self._lock = threading.Lock()
        self._seen: list[_Stamp] = []

    def load(self) -> T:
        """What is in the files now. Raises OSError when they cannot be used or do not stop changing."""
        with self._lock:
            return self._load_whole()

    def load_changed(self) -> T | None:
        """None: nothing has changed since the last attempt. Raises OSError once for a change that cannot be used."""
        with self._lock:
            return None if self._stamps() == self._seen else self._load_whole()

    def _load_whole(self) -> T:
        for _ in range(ATTEMPTS):
            self._seen = self._stamps()
            try:
                loaded = self._load()
            except OSError:
                if self._stamps() == self._seen:
                    raise
            else:
                if self._stamps() == self._seen:
                    return loaded
        names = ", ".join(map(str, self._paths))
        raise OSError(f"{names}: written while being read, {ATTEMPTS} times over")

    def _stamps(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> _Stamp:
    """What differs once the file was written or replaced, as Kubernetes replaces secrets by a link; None: missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
