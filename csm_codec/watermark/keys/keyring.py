"""The watermark keys of a codec stage: a small JSON file with five secret bytes for each key. No torch.

    {"format": 1, "active": "key-3f9c1a", "keys": {"key-3f9c1a": "0a1b2c3d4e"}}

New audio is marked with the active key; all keys are looked for. To rotate, add a key, make it active, and keep the old
one for as long as its audio matters. A holder of a key can forge its mark, so keys leave this module as bytes for the
networks alone: they are not shown, logged or sent.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from csm_bundle.errors import KeyringError
from csm_bundle.key_file import make_key_file, read_key_file
from csm_codec.watermark.keys.payload import PAYLOAD_BYTES

# The key in CSM's own published source. It is public, so it proves nothing. It is listed here to be refused.
PUBLIC_PAYLOAD = bytes((212, 211, 146, 56, 201))
_KIND = "watermark"  # keys, in messages


@dataclass(frozen=True, slots=True)
class WatermarkKey:
    """One key. The id is not secret."""

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


class FindsKey(Protocol):
    """The method that marking calls."""

    def get(self, key_id: str) -> WatermarkKey: ...


def open_keyring(path: Path, *, allow_public_key: bool = False) -> Keyring:
    """Reads the file; makes it first, with one new secret key, if it is not there.

    Raises KeyringError for a file that cannot be read or made, and for a public key that was not asked for.
    """
    make_key_file(path, kind=_KIND, num_bytes=PAYLOAD_BYTES)
    return read_keyring(path, allow_public_key=allow_public_key)


def read_keyring(path: Path, *, allow_public_key: bool) -> Keyring:
    """Reads the file. Raises KeyringError as `open_keyring`, and when it is not there."""

    def check(key_id: str, payload: bytes) -> None:
        if not allow_public_key and hmac.compare_digest(payload, PUBLIC_PAYLOAD):
            raise KeyringError(
                f'{path}: key "{key_id}" is the one published in the source of CSM. Anybody can make and remove its'
                " mark. Use a key of your own, or allow the public key explicitly."
            )

    file = read_key_file(path, kind=_KIND, num_bytes=PAYLOAD_BYTES, check=check)
    keys = {key_id: WatermarkKey(key_id, payload) for key_id, payload in file.keys.items()}
    return Keyring(keys[file.active_id], keys)
