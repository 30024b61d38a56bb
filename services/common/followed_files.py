"""Files that are loaded at the start and reloaded when they change. It knows no format.

A change during the load is noticed, so the loaded files always belong together. If a changed file is missing or
invalid, what was loaded before stays in use. It is then read again from time to time, for the reason may be outside the
files: permissions, a full memory, too many open files.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("csm.files")

T = TypeVar("T")

ATTEMPTS = 3
AGAIN_S = 30.0  # until files that could not be loaded are tried again, although they have not changed

_Stamp = tuple[Path, tuple[int, int, int] | None]


class FollowedFiles(Generic[T]):
    """The content of files as last loaded successfully. Thread-safe."""

    def __init__(
        self,
        paths: Sequence[Path] | Callable[[], Sequence[Path]],
        load: Callable[[], T],
        errors: type[Exception] = OSError,
        on_reload: Callable[[bool], None] = lambda usable: None,
    ) -> None:
        """paths: the files, or a function that lists them. load: loads them all, or raises one of `errors`, whose
        message names the file. on_reload: called once for each change, with whether it could be loaded.

        Raises what `load` raises, and OSError when the files do not stop changing.
        """
        self._paths = paths if callable(paths) else lambda: paths
        self._load, self._errors, self._on_reload = load, errors, on_reload
        self._lock = threading.Lock()
        self._seen: list[_Stamp] | None = None
        self._refused_at_s: float | None = None  # when the files were tried last; None while they are in use
        self._current = self._load_whole()

    def get(self) -> T:
        """The content, reloaded if the files have changed; otherwise the same object as before.

        A change that cannot be loaded is only logged, and tried again after AGAIN_S.
        """
        with self._lock:
            if self._stamps() != self._seen:
                self._reload()
            elif self._refused_at_s is not None and time.monotonic() - self._refused_at_s >= AGAIN_S:
                self._reload(again=True)
            return self._current

    def _reload(self, *, again: bool = False) -> None:
        """again: the same files have been refused before"""
        try:
            self._current = self._load_whole()
        except (OSError, self._errors) as error:
            self._refused_at_s = time.monotonic()
            if not again:
                log.error("what was read before stays in use: %s", error)
                self._on_reload(False)
        else:
            self._refused_at_s = None
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
        return ", ".join(str(path) for path, _ in self._seen or ())

    def _stamps(self) -> list[_Stamp] | None:
        """None of a folder that cannot be listed. One without files differs: all that it had were removed."""
        try:
            return [_stamp(path) for path in self._paths()]
        except OSError:
            return None


def _stamp(path: Path) -> _Stamp:
    """Changes when the file is written or replaced, as Kubernetes replaces secrets by a link. None: missing."""
    try:
        stat = path.stat()
    except OSError:
        return (path, None)
    return (path, (stat.st_mtime_ns, stat.st_ino, stat.st_size))
