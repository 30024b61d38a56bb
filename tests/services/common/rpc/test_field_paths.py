"""Paths of fields as text and as parts."""

from __future__ import annotations

import pytest

from services.common.rpc.field_paths import FieldPath, parse, render


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("text", ("text",)),
        ("sampling_params.top_k", ("sampling_params", "top_k")),
        ("segments[12].codes", ("segments", 12, "codes")),
        ("context.turns[0].audio.codes", ("context", "turns", 0, "audio", "codes")),
        ("a[1][2]", ("a", 1, 2)),
        ("", ("",)),
        ("a[x].b", ("a[x]", "b")),
        ("a[1", ("a[1",)),
    ],
)
def test_a_path_is_read_and_written_as_it_was(text: str, path: FieldPath) -> None:
    assert parse(text) == path
    assert render(path) == text
