"""Who begins like what."""

from __future__ import annotations

import numpy as np
import pytest

from csm_engine.kv.prefix import Prefix, best_match


def prefix(*values: int) -> Prefix:
    return Prefix(np.array([[value, -1] for value in values], dtype=np.int32).reshape(-1, 2))


@pytest.mark.parametrize(
    ("other", "common"), [((), 0), ((9,), 0), ((1,), 1), ((1, 2, 4, 5), 2), ((1, 2, 3), 3), ((1, 2, 3, 4), 3)]
)
def test_common_rows_are_counted_from_the_first(other: tuple[int, ...], common: int) -> None:
    assert prefix(1, 2, 3).has_in_common(prefix(*other)) == common
    assert prefix(*other).has_in_common(prefix(1, 2, 3)) == common


@pytest.mark.parametrize("longer_than", range(5))
def test_no_more_than_was_found_before_counts_as_nothing(longer_than: int) -> None:
    assert prefix(1, 2, 3, 4).has_in_common(prefix(1, 2, 3, 9), longer_than) == (3 if longer_than < 3 else 0)


def test_rows_that_agree_behind_a_difference_do_not_count() -> None:
    assert prefix(1, 2, 3, 4).has_in_common(prefix(1, 9, 3, 4), longer_than=2) == 0


def test_text_and_codes_of_equal_value_are_told_apart() -> None:
    text, codes = Prefix(np.array([[-1, 5]], np.int32)), Prefix(np.array([[5, -1]], np.int32))
    assert text.has_in_common(codes) == 0 and text.has_in_common(text) == 1


def test_best_is_the_longest_and_the_first_among_equals() -> None:
    known = {"a": prefix(1), "b": prefix(1, 2, 9), "c": prefix(1, 2, 8), "d": prefix(5)}
    assert best_match(prefix(1, 2, 3), known.items()) == ("b", 2)
    assert best_match(prefix(1, 2, 3), known.items(), longer_than=2) == (None, 2)
    assert best_match(prefix(7), known.items()) == (None, 0)
