"""The watermark keys of a running stage, reloaded when their file changes.

A stream keeps the key that it began with. So a key that was removed from the file still marks streams that name it,
such as those that continue after a lost codec, until the process ends. It is no longer used for detection.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from csm_bundle.errors import KeyringError
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey, open_keyring, read_keyring
from services.common.followed_files import FollowedFiles


class FollowedKeyring:
    """The keyring of a file. Thread-safe."""

    def __init__(self, path: Path, *, allow_public_key: bool, on_reload: Callable[[bool], None]) -> None:
        """Raises KeyringError as `open_keyring` does. on_reload: see FollowedFiles"""
        self._all_keys: dict[str, WatermarkKey] = {}  # every key since the start
        self._allow_public_key = allow_public_key
        self._file = FollowedFiles(
            [path],
            lambda: self._read(path),
            KeyringError,
            on_reload,
            prepare=lambda: open_keyring(path, allow_public_key=allow_public_key),  # creates a missing file
        )

    @property
    def current(self) -> Keyring:
        """The keys of the file as last loaded successfully."""
        return self._file.current

    def get(self, key_id: str) -> WatermarkKey:
        """The key to embed; the active one for "". Raises KeyringError for one that was never in the file."""
        current = self.current
        return self._all_keys.get(key_id) or current.get(key_id)

    def _read(self, path: Path) -> Keyring:
        keyring = read_keyring(path, allow_public_key=self._allow_public_key)
        self._all_keys.update(keyring.keys)
        return keyring
