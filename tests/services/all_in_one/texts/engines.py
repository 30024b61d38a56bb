"""Two engines with short sentences, and their sequences."""

from __future__ import annotations

from typing import Any

FRAMES = 3  # in a sentence, which the tiny model does not end itself
SEALED: dict[str, Any] = {"max_utterance_audio_seconds": FRAMES * 0.08, "code_sealing": "sealed"}
