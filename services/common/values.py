"""Values that more than one stage puts into its protos."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from csm.rvq.v1 import rvq_pb2
from google.protobuf import duration_pb2
from google.protobuf.message import Message

from csm_bundle.codec_identity import CodecIdentity


def from_identity(identity: CodecIdentity) -> rvq_pb2.CodecIdentity:
    return rvq_pb2.CodecIdentity(**asdict(identity))


def set_fields(message: Message) -> dict[str, Any]:
    """The fields of a message by name, but for those that are unset. Numbers that have no presence are never unset."""
    return {
        field.name: getattr(message, field.name)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def seconds(value: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration
