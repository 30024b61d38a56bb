"""The sentences of a text that another gateway has said, and the one that it has begun."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.synthesis.made import Made
from services.gateway.synthesis.result import SynthesisResult


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence, and where the text stands after it: what the next one goes on from."""

    text: str
    result: SynthesisResult
    clip_state: bytes  # of the clip after it, as in Clip.resume


@dataclass(frozen=True, slots=True)
class BegunSentence:
    """The sentence behind those that were said."""

    text: str
    made: Made
    is_inside: bool  # the stream goes on inside of it; otherwise with its first sample, or that of the text
