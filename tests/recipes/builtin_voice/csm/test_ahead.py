"""Things are made ahead of their use, in order, and failures are not lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recipes.builtin_voice.csm.ahead import DEPTH, ahead


def test_items_come_in_order_and_few_are_made_ahead() -> None:
    made: list[int] = []

    def things() -> Iterator[int]:
        for thing in range(20):
            made.append(thing)
            yield thing

    for thing in ahead(things()):
        assert len(made) <= thing + DEPTH + 2
    assert made == list(range(20))


def test_an_exception_is_raised_where_its_item_is_read() -> None:
    def things() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    coming = ahead(things())
    assert next(coming) == 1
    with pytest.raises(OSError, match="no more"):
        next(coming)
