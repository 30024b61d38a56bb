"""Files that are read at the start and again when they change. It knows no format.

A change that happens while they are read is noticed, so what was loaded is always what was on disk at one time. A file
that has become wrong or missing changes nothing: what was read before stays in use.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("csm.files")

T = TypeVar("T")

ATTEMPTS = 3

_Stamp = tuple[Path, tuple[int, int, int] | None]


class FollowedFiles(Generic[T]):
    """What is in files now, or was when they could last be used. Threads may share it."""

    def __init__(
        self,
        paths: Sequence[Path] | Callable[[], Sequence[Path]],
        load: Callable[[], T],
        errors: type[Exception] = OSError,
        on_reload: Callable[[bool], None] = lambda usable: None,
    ) -> None:
        """paths: the files, or what lists those that there are. load: reads them all; raises one of `errors`, which
        name the file, when it cannot use them. on_reload: called with whether they could be used, once for each change.

        Raises what `load` raises, and OSError when the files do not stop changing.
        """
        self._paths = paths if callable(paths) else lambda: paths
        self._load, self._errors, self._on_reload = load, errors, on_reload
        self._lock = threading.Lock()
        self._seen: list[_Stamp] = []
        self._current = self._load_whole()

    def get(self) -> T:
        """Looks for a change first; without one it is the same object as before.

        A change that cannot be used is an error in the log, and nothing else.
        """
        with self._lock:
            if self._stamps() != self._seen:
                self._reload()
            return self._current

    def _reload(self) -> None:
        try:
            self._current = self._load_whole()
        except (OSError, self._errors) as error:
            log.error("what was read before stays in use: %s", error)
            self._on_reload(False)
        else:
            log.info("in use as changed: %s", self._names())
            self._on_reload(True)

    def _load_whole(self) -> T:
        for _ in range(ATTEMPTS):
            self._seen = self._stamps()
            try:
                loaded = self._load()
            except self._errors:
                if self._stamps() == self._seen:
                    raise
            else:
                if self._stamps() == self._seen:
                    return loaded
        raise OSError(f"{self._names()}: written while being read, {ATTEMPTS} times over")

    def _names(self) -> str:
        return ", ".join(str(path) for path, _ in self._seen)

    def _stamps(self) -> list[_Stamp]:
        try:
            return [_stamp(path) for path in self._paths()]
        except OSError:  # of a folder that cannot be listed
            return []


def _stamp(path: Path) -> _Stamp:
    """What differs once the file was written or replaced, as Kubernetes replaces secrets by a link; None: missing."""
    try:
        stat = path.stat()
    except OSError:
        return (path, None)
    return (path, (stat.st_mtime_ns, stat.st_ino, stat.st_size))
