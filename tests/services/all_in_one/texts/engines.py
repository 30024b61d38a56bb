"""Two engines of short sentences, and their sequences."""

from __future__ import annotations

from typing import Any

FRAMES = 3  # of a sentence: the tiny model finds no end
SEALED: dict[str, Any] = {"max_utterance_audio_seconds": FRAMES * 0.08, "code_sealing": "sealed"}
