"""Makes the next items of an iterable in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Queue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

DEPTH = 4
LONGEST_WAIT_S = 300.0


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, which a thread makes up to DEPTH in advance. Its errors are raised here, at the next item."""
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(DEPTH)

    def make() -> None:
        try:
            for item in items:
                queue.put((item, None))
        except BaseException as error:
            queue.put((None, error))
        else:
            queue.put((None, StopIteration()))

    Thread(target=make, daemon=True, name="ahead").start()
    while True:
        item, error = queue.get(timeout=LONGEST_WAIT_S)
        if isinstance(error, StopIteration):
            return
        if error is not None:
            raise error
        assert item is not None
        yield item
