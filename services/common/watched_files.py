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

_Stamp = tuple[int, int, int] | None


class WatchedFiles(Generic[T]):
    """A set of files and the function that loads them."""

    def __init__(self, paths: Sequence[Path], load: Callable[[], T], errors: type[Exception] = OSError) -> None:
        """load: reads all of `paths`; raises one of `errors` when it cannot use them"""
        self._paths = paths
        self._load = load
        self._errors = errors
        self._lock = threading.Lock()
        self._seen: list[_Stamp] = []

    def load(self) -> T:
        """What is in the files now. Raises what `load` does, and OSError when they do not stop changing."""
        with self._lock:
            return self._load_whole()

    def load_changed(self) -> T | None:
        """None: nothing has changed since the last attempt. Raises as `load`, once for a change that cannot be used."""
        with self._lock:
            return None if self._stamps() == self._seen else self._load_whole()

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
        names = ", ".join(map(str, self._paths))
        raise OSError(f"{names}: written while being read, {ATTEMPTS} times over")

    def _stamps(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]


class FollowedFiles(Generic[T]):
    """What is in files now, or was when they could last be used. Threads may share it."""

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[], T],
        errors: type[Exception] = OSError,
        on_reload: Callable[[bool], None] = lambda usable: None,
    ) -> None:
        """load: reads all of `paths`; raises one of `errors`, which name the file, when it cannot use them.

        on_reload: called with whether the files could be used, once for each change. Raises what `load` raises.
        """
        self._paths, self._errors, self._on_reload = paths, errors, on_reload
        self._files = WatchedFiles(paths, load, errors)
        self._current = self._files.load()

    def get(self) -> T:
        """Looks for a change first. One that cannot be used is an error in the log, and nothing else."""
        try:
            changed = self._files.load_changed()
        except (OSError, self._errors) as error:
            log.error("what was read before stays in use: %s", error)
            self._on_reload(False)
        else:
            if changed is not None:
                self._current = changed
                log.info("in use as changed: %s", ", ".join(map(str, self._paths)))
                self._on_reload(True)
        return self._current


def _stamp(path: Path) -> _Stamp:
    """What differs once the file was written or replaced, as Kubernetes replaces secrets by a link; None: missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
