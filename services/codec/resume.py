"""Serializes the state of a clip between two streams, and of a stream at a checkpoint, to opaque bytes for the caller.

The bytes are a version, the numbers, and a digest of both, the weights' digest and the key id. The digest detects
mistakes, such as bytes of another bundle or key. It is no signature: callers of this port are trusted anyway. The key
itself is not in the digest: its five bytes could be found by brute force.
"""

from __future__ import annotations

import hashlib
import struct

import grpc

from csm_codec.watermark.stream.progress import START, ClipProgress, MarkPoint
from services.common.rpc.status import StatusError, wrong_field

MOST_BYTES = 1024
_VERSION = b"\x01"
_NUMBERS = struct.Struct("<qddq")
_POINT = struct.Struct("<qdddq")
_DIGEST_BYTES = 16
_MAX_NUMBER = 2**48  # samples, hops or frames: some 90 years or more


def to_bytes(progress: ClipProgress, weights_digest: str, key_id: str) -> bytes:
    """The state of a clip between two streams. weights_digest: of decoder and embedder together"""
    return _sealed(_VERSION + _progress_bytes(progress), "resume", weights_digest, key_id)


def from_bytes(state: bytes, weights_digest: str, key_id: str) -> ClipProgress:
    """The inverse of `to_bytes`; b"" is the start of a clip.

    Raises StatusError: CODEC_MISMATCH for the state of another codec, else RESUME_INVALID.
    """
    if not state:
        return START
    return ClipProgress(*_NUMBERS.unpack(_opened(state, "resume", _NUMBERS, weights_digest, key_id)))


def point_to_bytes(point: MarkPoint, weights_digest: str, key_id: str) -> bytes:
    """The state of a stream at a checkpoint. weights_digest: as for `to_bytes`"""
    numbers = (point.num_samples, point.level_sum, point.level_frames, point.square_sum, point.audible_frames)
    body = _VERSION + _progress_bytes(point.before) + _POINT.pack(*numbers)
    return _sealed(body, "checkpoint", weights_digest, key_id)


def point_from_bytes(state: bytes, weights_digest: str, key_id: str) -> MarkPoint | None:
    """The inverse of `point_to_bytes`; b"" is None. Raises StatusError as `from_bytes` does."""
    if not state:
        return None
    layout = struct.Struct(_NUMBERS.format + _POINT.format.removeprefix("<"))
    numbers = _opened(state, "checkpoint", layout, weights_digest, key_id)
    before, own = ClipProgress(*_NUMBERS.unpack(numbers[: _NUMBERS.size])), _POINT.unpack(numbers[_NUMBERS.size :])
    num_samples, level_sum, level_frames, square_sum, audible_frames = own
    return MarkPoint(num_samples, level_sum, level_frames, square_sum, audible_frames, before)


def _progress_bytes(progress: ClipProgress) -> bytes:
    return _NUMBERS.pack(progress.position, progress.hops, progress.square_sum, progress.audible_frames)


def _sealed(body: bytes, field: str, weights_digest: str, key_id: str) -> bytes:
    return body + _digest(body, field, weights_digest, key_id)


def _opened(state: bytes, field: str, layout: struct.Struct, weights_digest: str, key_id: str) -> bytes:
    """Checks a state, and returns its numbers, packed. Raises StatusError as `from_bytes` does."""
    if len(state) > MOST_BYTES:
        raise _wrong(field, f"has {len(state)} bytes; at most {MOST_BYTES} are allowed.")
    if state[:1] != _VERSION:
        raise _wrong(field, f"is of version {state[0]}; this codec knows version {_VERSION[0]}.")
    body, digest = state[:-_DIGEST_BYTES], state[-_DIGEST_BYTES:]
    if len(body) != 1 + layout.size:
        raise _wrong(field, f"has {len(state)} bytes; {1 + layout.size + _DIGEST_BYTES} are needed.")
    if digest != _digest(body, field, weights_digest, key_id):
        raise _of_another_codec(field, key_id)
    if not all(0 <= number < _MAX_NUMBER for number in layout.unpack(body[1:])):
        raise _wrong(field, "holds numbers that no clip has.")
    return body[1:]


def _digest(body: bytes, field: str, weights_digest: str, key_id: str) -> bytes:
    bound = "\0".join((f"csm.codec.v1 {field}", weights_digest, key_id)).encode()
    return hashlib.sha256(bound + b"\0" + body).digest()[:_DIGEST_BYTES]


def _of_another_codec(field: str, key_id: str) -> StatusError:
    """Not INVALID_ARGUMENT, because another codec accepts it."""
    return StatusError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "CODEC_MISMATCH",
        f"config.{field} was made by a codec of another bundle (decoder, mark network or the mark's strength)"
        f" or with another watermark key than '{key_id}', or it was changed. Send it to a codec of the bundle that"
        " began this audio, or begin the audio anew without it.",
    )


def _wrong(field: str, description: str) -> StatusError:
    return wrong_field(f"config.{field}", description, "RESUME_INVALID")
