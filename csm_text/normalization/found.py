"""The match of a rule's pattern: the text of each named group, None where the group did not match."""

from __future__ import annotations

from typing import Protocol


class Groups(Protocol):
    """A match of `re`, or a dictionary."""

    def __getitem__(self, name: str, /) -> str | None: ...
