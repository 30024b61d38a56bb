"""Files of secret keys: small JSON files that only their owner may read, created with one random key.

    {"format": 1, "active": "key-3f9c1a", "keys": {"key-3f9c1a": "0a1b2c3d4e"}}

The active key is used for new data; existing data may use any key. This module does not know what the keys are for.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from csm_bundle.checked_json import Problem, RepeatedKeyError, first_problem, named_once
from csm_bundle.errors import KeyringError

FORMAT = 1


def _digits(value: object) -> str:
    """A value that is no string has no digits, which `_parse` refuses with the id of the key."""
    return value if isinstance(value, str) else ""


class _Content(BaseModel):
    """The JSON of a key file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1]
    active: str
    keys: Annotated[
        dict[Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,64}$")], Annotated[str, BeforeValidator(_digits)]],
        Field(min_length=1),
    ]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Keys by id, in the file's order."""

    active_id: str
    keys: Mapping[str, bytes] = field(repr=False)


def make_key_file(path: Path, *, kind: str, num_bytes: int) -> None:
    """Creates the file with one random key, unless it exists. Arguments as of `read_key_file`. Raises KeyringError."""
    try:
        if not path.exists():
            _create(path, num_bytes)
    except OSError as error:
        raise KeyringError(f"The {kind} keyring {path} cannot be made: {error}.") from error


def read_key_file(
    path: Path, *, kind: str, num_bytes: int, check: Callable[[str, bytes], None] = lambda key_id, key: None
) -> KeyFile:
    """Reads and checks a key file. It never creates one: a file that is gone for a moment must not get new keys.

    kind: what the keys are for, in messages. num_bytes: the length of a key. check: called with each key's id and
    bytes; raises KeyringError for a key that is not allowed. Raises KeyringError.
    """
    what = f"The {kind} keyring {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise KeyringError(f"{what} cannot be read: {error}.") from error
    return _parse(what, text, num_bytes, check)


def _create(path: Path, num_bytes: int) -> None:
    """Writes a new file. If several processes do so at the same time, the first one's file stays."""
    key_id = f"key-{secrets.token_hex(3)}"
    content = {"format": FORMAT, "active": key_id, "keys": {key_id: secrets.token_hex(num_bytes)}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, this never replaces an existing file
        except FileExistsError:
            pass
    finally:
        draft.unlink(missing_ok=True)


def _parse(what: str, text: str, num_bytes: int, check: Callable[[str, bytes], None]) -> KeyFile:
    try:
        parsed = json.loads(text, object_pairs_hook=named_once)
    except json.JSONDecodeError as error:
        raise KeyringError(f"{what}, line {error.lineno}: not valid JSON.") from None
    except RepeatedKeyError as error:
        raise KeyringError(f"{what}: {error}.") from None
    except RecursionError:
        raise KeyringError(f"{what}: nested too deeply to be a keyring.") from None
    except ValueError:
        raise KeyringError(f"{what}: holds a number of thousands of digits.") from None
    try:
        content = _Content.model_validate(parsed)
    except ValidationError as error:
        raise KeyringError(f"{what}: {_without_key(first_problem(error))}.") from None
    keys: dict[str, bytes] = {}
    for key_id, digits in content.keys.items():
        if not re.fullmatch(f"[0-9a-fA-F]{{{2 * num_bytes}}}", digits):
            raise KeyringError(f'{what}: key "{key_id}" must be {2 * num_bytes} hexadecimal digits.')
        key = bytes.fromhex(digits)
        check(key_id, key)
        if any(hmac.compare_digest(key, other) for other in keys.values()):
            raise KeyringError(f'{what}: key "{key_id}" has the same bytes as another one.')
        keys[key_id] = key
    if content.active not in keys:
        raise KeyringError(f"{what}: active is not one of the keys, which are {', '.join(keys)}.")
    return KeyFile(content.active, keys)


def _without_key(problem: Problem) -> str:
    """What is wrong, without the value itself: it may be a secret key."""
    match problem.path:
        case ("format",) if problem.kind != "missing" and isinstance(problem.given, int):
            return f"format is {problem.given}; {FORMAT} is the only format known"
        case ("active",) if problem.kind != "missing":
            return "active is not one of the keys"
        case ("keys",) if problem.kind != "missing":
            return "keys must be an object with at least one key"
        case ("keys", _, "[key]"):
            return "a key id must be 1 to 64 of letters, digits, dot, dash and underscore"
        case _:
            return 'an object with the keys "format", "active" and "keys" is needed'
