"""What a rule's pattern found: the text of each named group, None where the group did not match."""

from __future__ import annotations

from typing import Protocol


class Groups(Protocol):
    """A match of `re`, or a dictionary that stands for one."""

    def __getitem__(self, name: str, /) -> str | None: ...
