"""The watermark keys of a running stage. They follow their file.

A stream keeps the key that it began with. So a key that has left the file still marks streams that name it, such as
those that continue after a lost codec, for as long as this process lives. It is no longer looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from csm_bundle.errors import KeyringError
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey, open_keyring, read_keyring
from services.common.watched_files import FollowedFiles


class FollowedKeyring:
    """The keyring of a file. Threads may share it."""

    def __init__(self, path: Path, *, allow_public_key: bool, on_reload: Callable[[bool], None]) -> None:
        """Raises KeyringError as `open_keyring` does. on_reload: see FollowedFiles"""
        self._had: dict[str, WatermarkKey] = {}  # every key since the start
        self._allow_public_key = allow_public_key
        open_keyring(path, allow_public_key=allow_public_key)  # makes the file
        self._file = FollowedFiles([path], lambda: self._read(path), KeyringError, on_reload)

    def current(self) -> Keyring:
        """The keys of the file as it is now, or as it last was right."""
        return self._file.get()

    def get(self, key_id: str) -> WatermarkKey:
        """The key to mark with; the active one for "". Raises KeyringError for one that never was in the file."""
        current = self.current()
        return self._had.get(key_id) or current.get(key_id)

    def _read(self, path: Path) -> Keyring:
        keyring = read_keyring(path, allow_public_key=self._allow_public_key)
        self._had.update(keyring.keys)
        return keyring
