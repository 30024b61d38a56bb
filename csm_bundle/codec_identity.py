"""The identity of a codec: codes of one codec cannot be decoded by another."""

from __future__ import annotations

from dataclasses import dataclass

from csm_bundle.checked_json import Name, Positive, Text

MIMI = "mimi"


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """The codec that codes belong to. The message `csm.rvq.v1.CodecIdentity` has the same fields."""

    name: Name
    weights_digest: Text  # "" when the bundle does not pin the weights
    codebook_count: Positive
    codebook_size: Positive
    frame_sample_count: Positive
    sample_rate_hertz: Positive
