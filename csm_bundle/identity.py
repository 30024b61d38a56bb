"""Which codec a code belongs to: the numbers that two stages compare before one takes codes from the other.

Plain values; it loads no weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from csm_bundle.codec_identity import CodecIdentity

__all__ = ["MIMI", "CodecIdentity", "weights_digest"]

MIMI = "mimi"


def weights_digest(path: Path) -> str:
    """`sha256:` and the hex digest of a weights file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
