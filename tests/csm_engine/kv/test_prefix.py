"""How many rows two prompts have in common."""

from __future__ import annotations

import numpy as np
import pytest

from csm_engine.kv.prefix import Prefix


def prefix(*values: int) -> Prefix:
    return Prefix(np.array([[value, -1] for value in values], dtype=np.int32).reshape(-1, 2))


@pytest.mark.parametrize(
    ("other", "common"), [((), 0), ((9,), 0), ((1,), 1), ((1, 2, 4, 5), 2), ((1, 2, 3), 3), ((1, 2, 3, 4), 3)]
)
def test_common_rows_are_counted_from_the_first(other: tuple[int, ...], common: int) -> None:
    assert prefix(1, 2, 3).rows_in_common(prefix(*other)) == common
    assert prefix(*other).rows_in_common(prefix(1, 2, 3)) == common


@pytest.mark.parametrize("longer_than", range(5))
def test_a_match_no_longer_than_the_previous_one_counts_as_none(longer_than: int) -> None:
    assert prefix(1, 2, 3, 4).rows_in_common(prefix(1, 2, 3, 9), longer_than) == (3 if longer_than < 3 else 0)


def test_rows_that_agree_behind_a_difference_do_not_count() -> None:
    assert prefix(1, 2, 3, 4).rows_in_common(prefix(1, 9, 3, 4), longer_than=2) == 0


def test_text_and_codes_of_equal_value_differ() -> None:
    text, codes = Prefix(np.array([[-1, 5]], np.int32)), Prefix(np.array([[5, -1]], np.int32))
    assert text.rows_in_common(codes) == 0 and text.rows_in_common(text) == 1


def test_equal_fingerprints_of_other_rows_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefix, "_factors", {2: np.zeros(2, np.int32)})
    assert prefix(1, 2, 3).rows_in_common(prefix(1, 9, 3)) == 1


def test_the_first_rows_are_as_a_prefix_of_their_own() -> None:
    assert prefix(1, 2, 3).first(2).fingerprints.tolist() == prefix(1, 2).fingerprints.tolist()
    assert len(prefix(1, 2, 3).first(2)) == 2
