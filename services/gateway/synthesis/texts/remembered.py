"""Which earlier sentences of a text are context of the next one. It knows no stage.

The engine keeps keys and values of a sentence and its context, and computes no position again that the next prompt
begins with. A context that drops its oldest sentence at every new one begins otherwise each time, so all of it is
computed each time. This one grows to a number of sentences, and then begins anew with the last one alone.
"""

from __future__ import annotations

from services.gateway.synthesis.plan import ContextTurn


class RememberedSentences:
    """The context of the next sentence. It follows from the sentences that were said, and from nothing else."""

    def __init__(self, most: int) -> None:
        """most: sentences; 0 remembers none"""
        self._most = most
        self.turns: tuple[ContextTurn, ...] = ()  # oldest first

    def add(self, said: ContextTurn) -> None:
        """said: the last sentence, with its codes. One without sound is no context, and does not count."""
        assert said.codes is not None
        if self._most and said.codes.frame_count:
            self.turns = (*self.turns, said) if len(self.turns) < self._most else (said,)


def context_rule(most: int) -> list[int]:
    """Least and most earlier sentences behind the first ones, for the digests of checkpoints.

    Another context makes other audio, so states of another rule are refused: a text that began anew would be other
    audio than what its caller has heard.
    """
    return [min(1, most), most]
