"""Threads that share the rows of a batch. It does not know what is computed for a row."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise

SMALLEST_GROUP = 4  # rows. Each group reads all weights, so smaller ones take much more CPU time in all


class RowThreads:
    """Runs a function on groups of neighbouring rows, on the calling thread and on threads of its own.

    Its threads are started when they are first needed. They sleep between calls, and end with the object.
    """

    def __init__(self, num_threads: int) -> None:
        """num_threads: the calling thread included"""
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads - 1, thread_name_prefix="rows") if num_threads > 1 else None

    def run(self, num_rows: int, compute: Callable[[slice], None]) -> None:
        """Calls `compute` once for each group of rows, and returns when all groups have ended.

        Raises: what `compute` raised; of several errors one.
        """
        groups = min(self._num_threads, num_rows // SMALLEST_GROUP)
        if self._pool is None or groups < 2:
            return compute(slice(0, num_rows))
        bounds = [num_rows * group // groups for group in range(groups + 1)]
        first, *others = (slice(begin, end) for begin, end in pairwise(bounds))
        running: list[Future[None]] = []
        try:
            for rows in others:
                running.append(self._pool.submit(compute, rows))
            compute(first)
        finally:
            wait(running)
        for group in running:
            group.result()
        return None
