"""Encrypts the codes that leave the gateway, so that only gateways with the same keys can read them.

Codes are audio without a watermark: anyone can decode them with the public Mimi. The cipher is AES-GCM-SIV (RFC 8452),
with which many gateways can share a key without coordinating nonces. A sealed message is

    "CSMS" version key-id-length key-id codec-tag nonce ciphertext

Everything before the ciphertext is authenticated with it. The tag identifies the codec of the codes. Checkpoints, which
contain codes, are sealed alike, with "CSMT" and an empty tag. It knows no request.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from csm.rvq.v1 import rvq_pb2
from google.protobuf.message import DecodeError

from csm_bundle.errors import KeyringError
from csm_bundle.key_file import make_key_file, read_key_file
from services.common.followed_files import FollowedFiles
from services.common.setting_types import expanded

KIND = "code sealing"  # keys, in messages
KEY_BYTES = 32
MAGIC = b"CSMS\x01"
STATE_MAGIC = b"CSMT\x02"
_TAG_BYTES = 8
_NONCE_BYTES = 12
_CHANGED = "are not as the server returned them: bytes were changed."


class SealError(ValueError):
    """Sealed codes that cannot be opened. The message completes a sentence that begins with their field."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Keys:
    active_id: str
    ciphers: Mapping[str, AESGCMSIV]


class CodeSeal:
    """Seals with the active key of the file, and opens with any of its keys. The file may change meanwhile."""

    def __init__(self, path: Path, on_reload: Callable[[bool], None] = lambda usable: None) -> None:
        """Raises KeyringError, OSError. on_reload: see FollowedFiles"""
        path = expanded(path)
        self._file = FollowedFiles(
            [path],
            lambda: _read(path),
            KeyringError,
            on_reload,
            prepare=lambda: make_key_file(path, kind=KIND, num_bytes=KEY_BYTES),
        )

    def seal(self, codes: rvq_pb2.CodeFrames, codec: rvq_pb2.CodecIdentity) -> bytes:
        return self._sealed(MAGIC, _tag(codec), codes.SerializeToString())

    def open(self, sealed: bytes, codec: rvq_pb2.CodecIdentity) -> rvq_pb2.CodeFrames:
        """Raises SealError."""
        tag, content = self._opened(MAGIC, sealed)
        if tag != _tag(codec):
            raise SealError(
                "SEALED_CODES_OTHER_CODEC",
                "belong to another codec than this server's; send the turn's audio as a recording.",
            )
        try:
            return rvq_pb2.CodeFrames.FromString(content)
        except DecodeError:
            raise SealError("SEALED_CODES_CHANGED", _CHANGED) from None

    def seal_state(self, state: bytes) -> bytes:
        """Seals a checkpoint. It cannot be opened as codes, nor codes as a checkpoint."""
        return self._sealed(STATE_MAGIC, bytes(_TAG_BYTES), state)

    def open_state(self, sealed: bytes) -> bytes:
        """Raises SealError, also for a state of a later version: SEALED_CODES_MALFORMED."""
        return self._opened(STATE_MAGIC, sealed)[1]

    def _sealed(self, magic: bytes, tag: bytes, content: bytes) -> bytes:
        keys = self._file.current
        key_id = keys.active_id.encode()
        header = magic + bytes([len(key_id)]) + key_id + tag
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = keys.ciphers[keys.active_id]
        return header + nonce + cipher.encrypt(nonce, content, header + nonce)

    def _opened(self, magic: bytes, sealed: bytes) -> tuple[bytes, bytes]:
        """The tag and the content. Raises SealError."""
        if not sealed.startswith(magic) or len(sealed) <= len(magic):
            raise SealError("SEALED_CODES_MALFORMED", "are not sealed codes as a server returns them.")
        begin = len(magic) + 1
        end = begin + sealed[len(magic)]
        key_id, tag = sealed[begin:end], sealed[end : end + _TAG_BYTES]
        start = end + _TAG_BYTES + _NONCE_BYTES
        if len(sealed) <= start:
            raise SealError("SEALED_CODES_MALFORMED", "are cut off: they hold no code.")
        cipher = self._file.current.ciphers.get(key_id.decode("ascii", "replace"))
        if cipher is None:
            raise SealError(
                "SEALED_CODES_UNKNOWN_KEY",
                "were sealed with a key that this server does not have; send the turn's audio as a recording.",
            )
        try:
            return tag, cipher.decrypt(sealed[start - _NONCE_BYTES : start], sealed[start:], sealed[:start])
        except InvalidTag:
            raise SealError("SEALED_CODES_CHANGED", _CHANGED) from None


def _read(path: Path) -> _Keys:
    file = read_key_file(path, kind=KIND, num_bytes=KEY_BYTES)
    return _Keys(file.active_id, {key_id: AESGCMSIV(key) for key_id, key in file.keys.items()})


def _tag(codec: rvq_pb2.CodecIdentity) -> bytes:
    values = [str(getattr(codec, field.name)) for field in codec.DESCRIPTOR.fields]
    return hashlib.sha256("\0".join(values).encode()).digest()[:_TAG_BYTES]
