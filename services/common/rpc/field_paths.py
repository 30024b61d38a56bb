"""Paths of fields in messages: "segments[1].speaker_id" is ("segments", 1, "speaker_id"). They know no message."""

from __future__ import annotations

FieldPath = tuple[str | int, ...]


def parse(text: str) -> FieldPath:
    """A part that is not written as above stays as it is."""
    path: list[str | int] = []
    for part in text.split("."):
        name, *indices = part.split("[")
        if all(index.endswith("]") and index[:-1].isdecimal() for index in indices):
            path += [name, *(int(index[:-1]) for index in indices)]
        else:
            path.append(part)
    return tuple(path)


def render(path: FieldPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
