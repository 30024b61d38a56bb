"""The sentences of a text that another gateway has said, and the one that it has begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.rpc.status import StatusError, wrong_field
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


@dataclass(frozen=True, slots=True)
class EarlierSentences:
    """The first sentences of a text, as another gateway tells of them."""

    said: Sequence[Said] = ()
    begun: BegunSentence | None = None  # the next one
    are_heard: bool = True  # otherwise their audio is wanted again

    def __len__(self) -> int:
        return len(self.said) + (self.begun is not None)

    def result_of(self, number: int, text: str) -> SynthesisResult | None:
        """What the sentence came to, if it was said. Raises StatusError if that was another sentence."""
        if number >= len(self.said):
            return None
        if self.said[number].text != text:
            raise other_text(number)
        return self.said[number].result

    def begun_of(self, number: int, text: str) -> BegunSentence | None:
        """The sentence, if it was begun. Raises StatusError if that was another sentence."""
        if self.begun is None or number != len(self.said):
            return None
        if self.begun.text != text:
            raise other_text(number)
        return self.begun


def other_text(number: int) -> StatusError:
    """For a text whose sentence of that number is another one than another gateway has said, or is missing."""
    why = f"does not begin with the sentences of the checkpoints: sentence {number} is another one or is missing."
    return wrong_field("text", why, "CHECKPOINT_OTHER_TEXT")
