"""Checks of parsed JSON files with pydantic, whose errors become one sentence: the key, its value, what is needed.

It knows no file's keys. A type carries its own rule: see `Positive` below.
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

# What `json.loads` may raise: ValueError also for numbers of thousands of digits, RecursionError for deep nesting.
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
    """An object_pairs_hook for `json.loads`. Raises RepeatedKeyError."""
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise RepeatedKeyError(f"the key {json.dumps(name)[:80]} is there twice")
        found[name] = value
    return found


def read_config(path: Path) -> dict[str, Any]:
    """Reads the JSON object of a checkpoint's configuration. Raises CheckpointError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, *NOT_JSON) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; an object is needed.")
    return values


def first_problem(error: ValidationError) -> Problem:
    """The first problem that pydantic lists."""
    details = error.errors(include_url=False)[0]
    context = details.get("ctx", {})
    path = (*details["loc"], *context.get("below", ()))
    (given,) = context.get("given", (details["input"],))
    return Problem(path, given, details["msg"], details["type"])


def refuse(rule: str, *below: int | str, **given: object) -> PydanticCustomError:
    """An error for a validator to raise.

    below: the path from the validated value to the wrong one. given: the wrong value, when it is not the validated one.
    """
    # In tuples, because pydantic fails for a string of the context that has a lone surrogate.
    context = {name: (value,) for name, value in given.items()}
    return PydanticCustomError(_REFUSED, "{rule}", {"rule": rule, "below": below, **context})


def needed(rule: str) -> WrapValidator:
    """Replaces pydantic's message about the value itself by this rule. Errors of values inside it stay as they are."""

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
    """Allows no other keys in a JSON object. A missing required key becomes null, which its type then refuses."""
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
    """JSON may contain half a surrogate pair, which UTF-8 cannot encode."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise refuse("a string without lone surrogates is needed")
    return text


Text = Annotated[str, Strict(), AfterValidator(_no_surrogates), needed("a string is needed")]
Name = Annotated[str, Strict(), MinLen(1), needed("a string is needed")]
Speaker = Annotated[int, Strict(), Ge(0), Le(2**31 - 1), needed("a whole number from 0 to 2^31 - 1 is needed")]
Seed = Annotated[int, Strict(), Ge(0), Le(2**63 - 1), needed("a whole number from 0 to 2^63 - 1 is needed")]
Positive = Annotated[int, Strict(), Ge(1), needed("a whole number of at least 1 is needed")]
