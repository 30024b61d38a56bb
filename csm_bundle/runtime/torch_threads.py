"""How many threads torch's operations use, set for one of the calling threads or for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import torch


def use_in_this_thread(count: int, *, elsewhere: int) -> None:
    """Sets the number for the calling thread alone.

    `torch.set_num_threads` sets it also for every thread that uses torch for the first time later. So another thread
    then sets it to `elsewhere`, which leaves a thread as it is that has used torch.
    """
    torch.get_num_threads()  # uses torch: otherwise the first operation would take the number from elsewhere
    torch.set_num_threads(count)
    other = Thread(target=torch.set_num_threads, args=(elsewhere,))
    other.start()
    other.join()


@contextmanager
def one_thread() -> Iterator[None]:
    """Sets the number to one inside the block, for the calling thread and those that use torch for the first time."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
