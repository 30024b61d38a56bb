"""Files that are loaded at the start and reloaded when they change. It knows no format.

A change during the load is noticed, so the loaded files always belong together. If a changed file is missing or
invalid, what was loaded before stays in use. It is then read again from time to time, for the reason may be outside the
files: permissions, a full memory, too many open files. A thread of their own looks at the files, because a file system
in the network may not answer, and a thread that waits for it cannot be ended.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("csm.files")

T = TypeVar("T")

ATTEMPTS = 3
START_S = 30.0  # longest wait for the first content; a start has nothing to go on with
AGAIN_S = 30.0  # until files that could not be loaded are tried again, although they have not changed
MOST_LOOK_S = 0.5  # longest wait of a caller for a look; it may stop all calls of a stage meanwhile

_Stamp = tuple[Path, tuple[int, int, int] | None]


class FollowedFiles(Generic[T]):
    """The content of files as last loaded successfully. Thread-safe."""

    def __init__(
        self,
        paths: Sequence[Path] | Callable[[], Sequence[Path]],
        load: Callable[[], T],
        errors: type[Exception] = OSError,
        on_reload: Callable[[bool], None] = lambda usable: None,
        most_look_s: float | None = None,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """paths: the files, or a function that lists them. load: loads them all, or raises one of `errors`, whose
        message names the file. on_reload: called once for each change, with whether it could be loaded; also with False
        when the files do not answer, and with True when they do again. most_look_s: how long a look at the files may
        take, MOST_LOOK_S by default. prepare: called once, before the first load

        Raises what `load` and `prepare` raise, and OSError when the files do not stop changing, or do not answer within
        START_S.
        """
        self._paths = paths if callable(paths) else lambda: paths
        self._load, self._errors, self._on_reload = load, errors, on_reload
        self._most_look_s = MOST_LOOK_S if most_look_s is None else most_look_s
        self._thread = ThreadPoolExecutor(1, "files")  # it begins with the first look, and ends with this object
        self._missing = threading.Lock()
        self._again: Future[None] | None = None  # the looks after one that took too long, until one does not
        self._seen: list[_Stamp] | None = None
        self._refused_at_s: float | None = None  # when the files were tried last; None while they are in use
        self.current = self._load_first(prepare)  # as last loaded successfully

    def get(self) -> T:
        """The content, reloaded if the files have changed; otherwise the same object as before.

        A change that cannot be loaded is only logged, and tried again after AGAIN_S. When the files do not answer in
        time, the caller gets what was loaded before, and so do all others at once until the files answer again.
        """
        if self._again is None:
            looking = self.look()
            if wait([looking], self._most_look_s).done:
                looking.result()
            else:
                self.miss()
        return self.current

    def look(self) -> Future[None]:
        """Begins to look whether the files have changed. When it is done, `current` is up to date."""
        return self._thread.submit(self._look)

    def miss(self) -> None:
        """Reports that a look takes too long."""
        with self._missing:
            if self._again is not None:
                return
            log.error("what was read before stays in use: %s: no answer within %g s", self._names(), self._most_look_s)
            self._on_reload(False)
            self._again = self._thread.submit(self._look_again, self.current)

    def _load_first(self, prepare: Callable[[], object]) -> T:
        def load() -> T:
            prepare()
            return self._load_whole()

        loading = self._thread.submit(load)
        if not wait([loading], START_S).done:
            raise TimeoutError(f"{self._names() or 'files'}: no answer within {START_S:g} s")
        return loading.result()

    def _look(self) -> None:
        if self._stamps() != self._seen:
            self._reload()
        elif self._refused_at_s is not None and time.monotonic() - self._refused_at_s >= AGAIN_S:
            self._reload(again=True)

    def _look_again(self, before: T) -> None:
        """Looks until a look is in time. before: the content when one was not"""
        try:
            took_s = math.inf
            while took_s > self._most_look_s:
                began_s = time.monotonic()
                self._look()
                took_s = time.monotonic() - began_s
        finally:
            with self._missing:
                self._again = None
        if self._refused_at_s is None:
            log.info("they answer again: %s", self._names())
            if self.current is before:
                self._on_reload(True)

    def _reload(self, *, again: bool = False) -> None:
        """again: the same files have been refused before"""
        try:
            self.current = self._load_whole()
        except Exception as error:
            self._refused_at_s = time.monotonic()
            if not again:
                is_unforeseen = not isinstance(error, (OSError, self._errors))
                log.error("what was read before stays in use: %s", error, exc_info=is_unforeseen)
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
