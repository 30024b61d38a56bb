"""The state of a clip as opaque bytes, which the caller keeps between two streams.

They hold a version, the numbers, and a digest over these, the weights' digest and the key's id. The digest detects
mistakes, such as bytes of another bundle or key. It is no signature: callers of this port are trusted with all audio
anyway. The key's bytes are not in the digest, because a search would find five bytes.
"""

from __future__ import annotations

import hashlib
import math
import struct

from csm_codec.watermark.stream.progress import START, ClipProgress
from services.common.rpc.status import FieldViolation, StatusError, invalid_argument

MOST_BYTES = 1024
_VERSION = b"\x01"
_NUMBERS = struct.Struct("<qddq")
_DIGEST_BYTES = 16
_LONGEST = 2**48  # samples, hops or frames: some 90 years


def to_bytes(progress: ClipProgress, weights_digest: str, key_id: str) -> bytes:
    """weights_digest: of decoder and embedder together"""
    numbers = _NUMBERS.pack(progress.position, progress.hops, progress.square_sum, progress.audible_frames)
    body = _VERSION + numbers
    return body + _digest(body, weights_digest, key_id)


def from_bytes(state: bytes, weights_digest: str, key_id: str) -> ClipProgress:
    """The start for no bytes. Raises StatusError INVALID_ARGUMENT, reason RESUME_INVALID."""
    if not state:
        return START
    if len(state) > MOST_BYTES:
        raise _wrong(f"has {len(state)} bytes; at most {MOST_BYTES} are allowed.")
    if state[:1] != _VERSION:
        raise _wrong(f"is of version {state[0]}; this codec knows version {_VERSION[0]}.")
    body, digest = state[:-_DIGEST_BYTES], state[-_DIGEST_BYTES:]
    if len(body) != 1 + _NUMBERS.size:
        raise _wrong(f"has {len(state)} bytes; {1 + _NUMBERS.size + _DIGEST_BYTES} are needed.")
    if digest != _digest(body, weights_digest, key_id):
        raise _wrong(f"was changed, or belongs to other weights or another key than '{key_id}'.")
    progress = ClipProgress(*_NUMBERS.unpack(body[1:]))
    numbers = (progress.position, progress.hops, progress.square_sum, progress.audible_frames)
    if not all(math.isfinite(number) and 0 <= number < _LONGEST for number in numbers):
        raise _wrong("holds numbers that no clip has.")
    return progress


def _digest(body: bytes, weights_digest: str, key_id: str) -> bytes:
    bound = "\0".join(("csm.codec.v1 resume", weights_digest, key_id)).encode()
    return hashlib.sha256(bound + b"\0" + body).digest()[:_DIGEST_BYTES]


def _wrong(description: str) -> StatusError:
    return invalid_argument([FieldViolation("config.resume", description, "RESUME_INVALID")])
