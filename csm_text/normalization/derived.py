"""Patterns that are made from another version's patterns by replacing parts of them."""

from __future__ import annotations


def derived(pattern: str, *replacements: tuple[str, str]) -> str:
    """The pattern with parts replaced wherever they occur, one after the other. replacements: of a part by a text.

    Raises: ValueError if a part does not occur, because the other version has changed.
    """
    for part, text in replacements:
        if part not in pattern:
            raise ValueError(f"{part!r} is not in {pattern!r}")
        pattern = pattern.replace(part, text)
    return pattern
