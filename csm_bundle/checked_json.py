"""What pydantic says about a parsed file, as one sentence: which key, what stands there, what is needed.

It knows no file's keys. Types carry their rule: `Positive` below is an example.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, MinLen
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from csm_bundle.errors import CheckpointError

# What `json.loads` raises of bytes or text: also for numbers of thousands of digits, and for deep nesting.
NOT_JSON = (ValueError, RecursionError)

_REFUSED = "refused"  # type of the errors that `refuse` makes


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong with a file."""

    path: tuple[int | str, ...]  # of keys and indices
    given: object
    rule: str
    kind: str  # pydantic's, such as "missing"

    @property
    def key(self) -> str:
        """The path as text, such as voices[1].name."""
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return key.removeprefix(".") or "the top level"

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"key {self.key!r} is missing"
        return f"{self.key} is {json.dumps(self.given, default=str)[:80]}; {self.rule}"


class RepeatedKeyError(ValueError):
    """An object has a key twice; JSON would keep the last value."""


def named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For `json.loads`, as its object_pairs_hook. Raises RepeatedKeyError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedKeyError(f"the key {json.dumps(twice)[:80]} is there twice")
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object that is a checkpoint's configuration. Raises CheckpointError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, *NOT_JSON) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; an object is needed.")
    return values


def first_problem(error: ValidationError) -> Problem:
    """The first mistake that the error lists."""
    details = error.errors(include_url=False)[0]
    context = details.get("ctx", {})
    path = (*details["loc"], *context.get("below", ()))
    return Problem(path, context.get("given", details["input"]), details["msg"], details["type"])


def refuse(rule: str, *below: int | str, **given: object) -> PydanticCustomError:
    """An error for a validator. below: the path from the validated value to what is wrong; given: instead of that."""
    return PydanticCustomError(_REFUSED, "{rule}", {"rule": rule, "below": below, **given})


def needed(rule: str) -> WrapValidator:
    """Replaces every error of the value itself by what is needed. Errors of values below it stay as they are."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            if details["loc"] or details["type"] == _REFUSED:
                raise
            raise refuse(rule) from None

    return WrapValidator(check)


def keys(required: Collection[str], optional: Collection[str] = ()) -> BeforeValidator:
    """A JSON object that allows no other keys. A missing required key reads as null, which its type refuses."""
    allowed = sorted({*required, *optional})

    def check(value: object) -> object:
        if not isinstance(value, dict):
            raise refuse("an object is needed")
        for name in value:
            if name not in allowed:
                raise refuse(f"allowed keys are {', '.join(allowed)}", given=name)
        return dict.fromkeys(required) | value

    return BeforeValidator(check)


def _no_surrogates(text: str) -> str:
    """JSON can hold half a surrogate pair, which no message and no file can."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise refuse("a string without lone surrogates is needed")
    return text


Text = Annotated[str, Strict(), AfterValidator(_no_surrogates), needed("a string is needed")]
Name = Annotated[str, Strict(), MinLen(1), needed("a string is needed")]
Speaker = Annotated[int, Strict(), Ge(0), Le(2**31 - 1), needed("a whole number from 0 to 2^31 - 1 is needed")]
Seed = Annotated[int, Strict(), Ge(0), Le(2**63 - 1), needed("a whole number from 0 to 2^63 - 1 is needed")]
Positive = Annotated[int, Strict(), Ge(1), needed("a whole number of at least 1 is needed")]
