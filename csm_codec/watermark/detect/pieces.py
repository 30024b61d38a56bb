"""Work in bounded pieces, so that a thread can do other work in between. No torch.

A generator yields between two pieces and returns the result. It does not know what comes between them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Pieces: TypeAlias = Generator[None, None, T]


def result_of(pieces: Pieces[T]) -> T:
    """Runs all pieces, one after the other."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result
