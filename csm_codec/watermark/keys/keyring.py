"""The watermark keys of a codec stage: a small JSON file with five secret bytes for each key. No torch.

    {"format": 1, "active": "key-3f9c1a", "keys": {"key-3f9c1a": "0a1b2c3d4e"}}

New audio is marked with the active key; all keys are looked for. To rotate, add a key, make it active, and keep the old
one for as long as its audio matters. Whoever has a key can forge its mark, so keys leave this module as bytes for the
networks and nothing else: they are not shown, logged or sent.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from csm_bundle.errors import KeyringError
from csm_codec.watermark.keys.payload import PAYLOAD_BYTES

FORMAT = 1

# The key in CSM's own published source. Everybody has it, so it proves nothing; it stands here to be refused.
PUBLIC_PAYLOAD = bytes((212, 211, 146, 56, 201))

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class WatermarkKey:
    """One key. The id may be known to everybody."""

    id: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by id, in the file's order, and the one that new audio is marked with."""

    active: WatermarkKey
    keys: Mapping[str, WatermarkKey]

    def get(self, key_id: str) -> WatermarkKey:
        """The key of that id; the active one for "". Raises KeyringError if there is none."""
        if not key_id:
            return self.active
        if key_id not in self.keys:
            raise KeyringError(f'There is no watermark key "{key_id}"; there are {", ".join(self.keys)}.')
        return self.keys[key_id]


def open_keyring(path: Path, *, allow_public_key: bool = False) -> Keyring:
    """Reads the file; makes it first, with one new secret key, if it is not there.

    Raises KeyringError for a file that cannot be read or made, and for a public key that was not asked for.
    """
    try:
        if not path.exists():
            _create(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyringError(f"The watermark keyring {path} cannot be read or made: {error}.") from error
    return _parse(path, text, allow_public_key)


def _create(path: Path) -> None:
    """One new key, readable by its owner alone. Of several processes that start at once, one makes the file."""
    key_id = f"key-{secrets.token_hex(3)}"
    content = {"format": FORMAT, "active": key_id, "keys": {key_id: secrets.token_hex(PAYLOAD_BYTES)}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, this never replaces keys that are in use
        except FileExistsError:
            pass
    finally:
        draft.unlink(missing_ok=True)


def _parse(path: Path, text: str, allow_public_key: bool) -> Keyring:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _named_once(path, pairs))
    except json.JSONDecodeError as error:
        raise KeyringError(f"{path}, line {error.lineno}: not valid JSON.") from None
    except RecursionError:
        raise KeyringError(f"{path}: nested too deeply to be a keyring.") from None
    if not isinstance(content, dict) or set(content) != {"format", "active", "keys"}:
        raise KeyringError(f'{path}: an object with the keys "format", "active" and "keys" is needed.')
    if content["format"] != FORMAT:
        raise KeyringError(f"{path}: format is {content['format']}; {FORMAT} is the only format known.")
    if not isinstance(content["keys"], dict) or not content["keys"]:
        raise KeyringError(f"{path}: keys must be an object with at least one key.")
    keys: dict[str, WatermarkKey] = {}
    for key_id, value in content["keys"].items():
        key = WatermarkKey(key_id, _payload(path, key_id, value))
        if not allow_public_key and hmac.compare_digest(key.payload, PUBLIC_PAYLOAD):
            raise KeyringError(
                f'{path}: key "{key_id}" is the one published in the source of CSM. Anybody can make and remove its'
                " mark. Use a key of your own, or allow the public key explicitly."
            )
        if any(hmac.compare_digest(key.payload, other.payload) for other in keys.values()):
            raise KeyringError(f'{path}: key "{key_id}" has the same bytes as another one.')
        keys[key_id] = key
    if not isinstance(content["active"], str) or content["active"] not in keys:
        raise KeyringError(f"{path}: active is not one of the keys, which are {', '.join(keys)}.")
    return Keyring(keys[content["active"]], keys)


def _named_once(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of two values with one name JSON keeps the last: the marks of the other key would not be found any more."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise KeyringError(f'{path}: "{twice}" is there twice.')
    return dict(pairs)


def _payload(path: Path, key_id: str, value: object) -> bytes:
    if not _ID.fullmatch(key_id):
        raise KeyringError(f"{path}: a key id must be 1 to 64 of letters, digits, dot, dash and underscore.")
    if isinstance(value, str) and re.fullmatch(f"[0-9a-fA-F]{{{2 * PAYLOAD_BYTES}}}", value):
        return bytes.fromhex(value)
    raise KeyringError(f'{path}: key "{key_id}" must be {2 * PAYLOAD_BYTES} hexadecimal digits.')
