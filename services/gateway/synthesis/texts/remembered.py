"""Which earlier sentences of a text are the context of the next one. It knows no stage.

The engine caches the keys and values of a sentence and its context, and reuses them for a prompt with the same
beginning. A sliding window of sentences would begin differently each time, so nothing could be reused. Therefore the
context grows to a number of sentences, and then starts over with the last one alone.
"""

from __future__ import annotations

from services.gateway.synthesis.plan import ContextTurn


class RememberedSentences:
    """The context of the next sentence. It depends on the earlier sentences only."""

    def __init__(self, most: int) -> None:
        """most: sentences in a context; 0 remembers none"""
        self._most = most
        self.turns: tuple[ContextTurn, ...] = ()  # oldest first

    def add(self, sentence: ContextTurn) -> None:
        """sentence: the newest one, with its codes. One without audio is ignored."""
        assert sentence.codes is not None
        if self._most and sentence.codes.frame_count:
            self.turns = (*self.turns, sentence) if len(self.turns) < self._most else (sentence,)


def context_rule(most: int) -> list[int]:
    """The least and most earlier sentences in a context, for the digests of checkpoints.

    Another context gives other audio, so checkpoints made under another rule are refused.
    """
    return [min(1, most), most]
