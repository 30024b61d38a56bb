"""A valid bundle.json for tests to change, and a bundle's folder whose weights are single bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def valid_manifest(**changes: Any) -> dict[str, Any]:
    """The content of a bundle.json, with some keys replaced."""
    whole: dict[str, Any] = {
        "format": 1,
        "name": "tiny",
        "version": "7",
        "notice": "Untrained.",
        "parts": {"model": "model", "mimi": "mimi.safetensors", "silentcipher": "marks"},
        "codec": {
            "name": "mimi",
            "weights_digest": "sha256:00",
            "codebook_count": 32,
            "codebook_size": 2048,
            "frame_sample_count": 1920,
            "sample_rate_hertz": 24000,
        },
        "voices": [
            {"name": "ann", "speaker": 0, "language_codes": ["en"], "description": "Calm."},
            {"name": "bob", "speaker": 1},
        ],
    }
    return {**whole, **changes}


def write_bundle(folder: Path, content: dict[str, Any] | str) -> Path:
    """Writes the folder without the part "silentcipher". content: of bundle.json."""
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"w")
    (folder / "mimi.safetensors").write_bytes(b"m")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    return folder
