"""Files that are loaded at the start and reloaded when they change. It knows no format.

A thread looks at the files every second, so callers never wait for a file system. A change during the load is noticed,
so the loaded files always belong together. If a changed file is missing or invalid, what was loaded before stays in
use. It is then read again from time to time, for the reason may be outside the files: permissions, a full memory, too
many open files.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("csm.files")

T = TypeVar("T")

ATTEMPTS = 3
START_S = 30.0  # longest wait for the first content; a start has nothing to go on with
LOOK_S = 1.0  # from the end of one look at the files to the next
MOST_LOOK_S = 2.0  # a look that takes longer is reported, for example at a file system in the network that hangs
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
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """paths: the files, or a function that lists them. load: loads them all, or raises one of `errors`, whose
        message names the file. on_reload: called once for each change, with whether it could be loaded; also with False
        when the files do not answer, and with True when they do again. prepare: called once, before the first load.
        All of them are called by other threads.

        Raises what `load` and `prepare` raise, and OSError when the files do not stop changing, or do not answer within
        START_S.
        """
        self._paths = paths if callable(paths) else lambda: paths
        self._load, self._errors, self._on_reload = load, errors, on_reload
        self._seen: list[_Stamp] | None = None
        self._refused_at_s: float | None = None  # when the files were tried last; None while they are in use
        self._reports = threading.Lock()  # of looks that take too long
        self._looks_since_s: float | None = None  # begin of the current look
        self._is_late = False  # whether the current look has been reported
        self._current: T
        loading: Future[None] = Future()
        unused = threading.Event()  # set when nothing refers to this object any more
        weakref.finalize(self, unused.set)
        follow = partial(_follow, weakref.ref(self), prepare, loading, unused)
        threading.Thread(target=follow, name="files", daemon=True).start()
        if not wait([loading], START_S).done:
            raise TimeoutError(f"{self._names() or 'files'}: no answer within {START_S:g} s")
        loading.result()

    @property
    def current(self) -> T:
        """The content as last loaded successfully. The same object until the files change."""
        began_s = self._looks_since_s
        if began_s is not None and time.monotonic() - began_s > MOST_LOOK_S:
            self._report_late(began_s)
        return self._current

    def load(self) -> None:
        """Raises as the constructor does."""
        self._current = self._load_whole()

    def look(self) -> None:
        """Reloads the files if they have changed. A change that cannot be loaded is only logged, and tried again after
        AGAIN_S. To be called by one thread at a time.
        """
        before, self._looks_since_s = self._current, time.monotonic()
        if self._stamps() != self._seen:
            self._reload()
        elif self._refused_at_s is not None and time.monotonic() - self._refused_at_s >= AGAIN_S:
            self._reload(again=True)
        with self._reports:
            self._looks_since_s, was_late, self._is_late = None, self._is_late, False
        if was_late and self._refused_at_s is None:
            log.info("they answer again: %s", self._names())
            if self._current is before:
                self._on_reload(True)

    def _report_late(self, began_s: float) -> None:
        with self._reports:
            if self._looks_since_s == began_s and not self._is_late:
                self._is_late = True
                log.error("what was read before stays in use: %s: no answer within %g s", self._names(), MOST_LOOK_S)
                self._on_reload(False)

    def _reload(self, *, again: bool = False) -> None:
        """again: the same files have been refused before"""
        try:
            self.load()
        except BaseException as error:  # a panic of a Rust library is no Exception, and nobody would look any more
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
        except Exception:  # of any kind, for `load` meets it too and says what it is
            return None


def _follow(
    reference: weakref.ref[FollowedFiles[T]],
    prepare: Callable[[], object],
    loading: Future[None],
    unused: threading.Event,
) -> None:
    """Loads the files, then looks at them every LOOK_S for as long as the object exists. A thread that waits for a file
    system cannot be ended, so it is a daemon.
    """
    try:
        prepare()
        if (files := reference()) is not None:
            files.load()
            del files
        loading.set_result(None)
    except BaseException as error:
        loading.set_exception(error)
        return
    while not unused.wait(LOOK_S):
        if (files := reference()) is not None:
            files.look()
        del files


def _stamp(path: Path) -> _Stamp:
    """Changes when the file is written or replaced, as Kubernetes replaces secrets by a link. None: missing."""
    try:
        stat = path.stat()
    except OSError:
        return (path, None)
    return (path, (stat.st_mtime_ns, stat.st_ino, stat.st_size))
