"""Seals the codes that leave the gateway: only gateways with the same keys can open them. It knows no request.

Codes are unmarked audio: a reader can decode them with the public Mimi and gets speech without a watermark.
AES-GCM-SIV (RFC 8452) seals them: many gateways may share one key without counting nonces. A sealed message is

    "CSMS" version key-id-length key-id codec-tag nonce ciphertext

Everything before the ciphertext is authenticated with it. The tag identifies the codec of the codes.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from csm.rvq.v1 import rvq_pb2
from google.protobuf.message import DecodeError

from csm_bundle.errors import KeyringError
from csm_bundle.key_file import open_key_file, read_key_file
from services.common.watched_files import FollowedFiles

Mode = Literal["sealed", "open", "off"]

KIND = "code sealing"  # keys, in messages
KEY_BYTES = 32
MAGIC = b"CSMS\x01"
_TAG_BYTES = 8
_NONCE_BYTES = 12


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
    """Seals with the active key, and opens with any key of the file, as it is when the codes leave or come back."""

    def __init__(self, path: Path, on_reload: Callable[[bool], None] = lambda usable: None) -> None:
        """Raises KeyringError. on_reload: see FollowedFiles"""
        path = path.expanduser()
        open_key_file(path, kind=KIND, num_bytes=KEY_BYTES)  # makes the file
        self._file = FollowedFiles([path], lambda: _read(path), KeyringError, on_reload)

    def seal(self, codes: rvq_pb2.CodeFrames, codec: rvq_pb2.CodecIdentity) -> bytes:
        keys = self._file.get()
        key_id = keys.active_id.encode()
        header = MAGIC + bytes([len(key_id)]) + key_id + _tag(codec)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = keys.ciphers[keys.active_id]
        return header + nonce + cipher.encrypt(nonce, codes.SerializeToString(), header + nonce)

    def open(self, sealed: bytes, codec: rvq_pb2.CodecIdentity) -> rvq_pb2.CodeFrames:
        """Raises SealError."""
        if not sealed.startswith(MAGIC) or len(sealed) <= len(MAGIC):
            raise SealError("SEALED_CODES_MALFORMED", "are not sealed codes as a server returns them.")
        begin = len(MAGIC) + 1
        end = begin + sealed[len(MAGIC)]
        key_id, tag = sealed[begin:end], sealed[end : end + _TAG_BYTES]
        start = end + _TAG_BYTES + _NONCE_BYTES
        if len(sealed) <= start:
            raise SealError("SEALED_CODES_MALFORMED", "end before their first code.")
        cipher = self._file.get().ciphers.get(key_id.decode("ascii", "replace"))
        if cipher is None:
            raise SealError(
                "SEALED_CODES_UNKNOWN_KEY",
                "were sealed with a key that this server does not have; send the turn's audio as a recording.",
            )
        if tag != _tag(codec):
            raise SealError(
                "SEALED_CODES_OTHER_CODEC",
                "belong to another codec than this server's; send the turn's audio as a recording.",
            )
        try:
            content = cipher.decrypt(sealed[start - _NONCE_BYTES : start], sealed[start:], sealed[:start])
            return rvq_pb2.CodeFrames.FromString(content)
        except (InvalidTag, DecodeError):
            raise SealError(
                "SEALED_CODES_CHANGED", "are not as the server returned them: bytes were changed."
            ) from None


def open_code_seal(mode: Mode, path: Path, on_reload: Callable[[bool], None]) -> CodeSeal | None:
    """The seal; None when sealing is off. The rest is as for CodeSeal."""
    return CodeSeal(path, on_reload) if mode == "sealed" else None


def _read(path: Path) -> _Keys:
    file = read_key_file(path, kind=KIND, num_bytes=KEY_BYTES)
    return _Keys(file.active_id, {key_id: AESGCMSIV(key) for key_id, key in file.keys.items()})


def _tag(codec: rvq_pb2.CodecIdentity) -> bytes:
    values = [str(getattr(codec, field.name)) for field in codec.DESCRIPTOR.fields]
    return hashlib.sha256("\0".join(values).encode()).digest()[:_TAG_BYTES]
