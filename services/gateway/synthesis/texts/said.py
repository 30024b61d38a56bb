"""A sentence of a text that has been said, and where the text stands after it: what the next sentence goes on from."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.synthesis.result import SynthesisResult


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence. Another gateway may have said it."""

    text: str
    result: SynthesisResult
    clip_state: bytes  # of the clip after it, as in Clip.resume
