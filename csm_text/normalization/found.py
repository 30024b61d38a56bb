"""What a rule's pattern has found: the text of each named group, None where the group took no part."""

from __future__ import annotations

from typing import Protocol


class Groups(Protocol):
    """A match of `re`, or a dictionary."""

    def __getitem__(self, name: str, /) -> str | None: ...
