"""Which codec codes belong to."""

from __future__ import annotations

from dataclasses import dataclass

from csm_bundle.checked_json import Name, Positive, Text

MIMI = "mimi"


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """What the model's codes belong to; `csm.rvq.v1.CodecIdentity` carries the same values."""

    name: Name
    weights_digest: Text  # "" when the bundle does not pin the weights
    codebook_count: Positive
    codebook_size: Positive
    frame_sample_count: Positive
    sample_rate_hertz: Positive
