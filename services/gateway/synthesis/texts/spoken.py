"""The sentences of a text that another gateway has spoken, and the one that it had begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.rpc.status import StatusError, wrong_field
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.resume_state import ResumeState


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """A whole sentence, and the state that the next one continues from."""

    text: str
    result: SynthesisResult
    clip_state: bytes  # Clip.resume after the sentence


@dataclass(frozen=True, slots=True)
class PartialSentence:
    """The sentence after the spoken ones, of which some frames exist."""

    text: str
    state: ResumeState
    resumes_inside: bool  # the caller has some of its audio; otherwise it gets the sentence from its first sample


@dataclass(frozen=True, slots=True)
class SpokenSentences:
    """The first sentences of a text, restored from checkpoints."""

    spoken: Sequence[SpokenSentence] = ()
    partial: PartialSentence | None = None
    were_heard: bool = True  # the caller has their audio; otherwise it is decoded again

    def __len__(self) -> int:
        return len(self.spoken) + (self.partial is not None)

    def result_of(self, number: int, text: str) -> SynthesisResult | None:
        """The result of a spoken sentence; None if it is not one. Raises StatusError if that sentence was another."""
        if number >= len(self.spoken):
            return None
        if self.spoken[number].text != text:
            raise other_text(number)
        return self.spoken[number].result

    def partial_of(self, number: int, text: str) -> PartialSentence | None:
        """The partial sentence if it has that number. Raises StatusError if that sentence was another."""
        if self.partial is None or number != len(self.spoken):
            return None
        if self.partial.text != text:
            raise other_text(number)
        return self.partial


def other_text(number: int) -> StatusError:
    """The error for a text that lacks the sentence of that number in the checkpoints, or has another one there."""
    why = f"does not begin with the sentences of the checkpoints: sentence {number} is another one or is missing."
    return wrong_field("text", why, "CHECKPOINT_OTHER_TEXT")
