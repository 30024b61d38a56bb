"""Makes the next items in a thread while the last one is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Queue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

DEPTH = 4
LONGEST_WAIT_S = 300.0


def ahead(things: Iterable[T]) -> Iterator[T]:
    """The same items, made by a thread of their own, at most DEPTH ahead. An error of the thread is raised here."""
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(DEPTH)

    def make() -> None:
        try:
            for thing in things:
                queue.put((thing, None))
        except BaseException as error:  # any error is raised at the next item
            queue.put((None, error))
        else:
            queue.put((None, StopIteration()))

    Thread(target=make, daemon=True, name="ahead").start()
    while True:
        thing, error = queue.get(timeout=LONGEST_WAIT_S)
        if isinstance(error, StopIteration):
            return
        if error is not None:
            raise error
        assert thing is not None
        yield thing
