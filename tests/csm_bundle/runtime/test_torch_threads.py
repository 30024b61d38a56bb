"""A thread may have its own number of torch threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread

import pytest
import torch

from csm_bundle.runtime.torch_threads import use_in_this_thread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


def in_thread(function: Callable[[], None]) -> None:
    thread = Thread(target=function)
    thread.start()
    thread.join()


def test_only_the_calling_thread_is_set() -> None:
    counts = []

    def own() -> None:
        use_in_this_thread(2, elsewhere=3)
        counts.append(torch.get_num_threads())

    in_thread(own)
    in_thread(lambda: counts.append(torch.get_num_threads()))  # one that uses torch for the first time
    assert counts == [2, 3] and torch.get_num_threads() == 3
