"""One clip: the audio of one call, which the codec marks as a whole. It holds one utterance or several.

It knows no RPC.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Clip:
    """The state of a clip between two utterances.

    Utterances are decoded one after the other. Each continues from `resume`, possibly at another replica.
    """

    resume: bytes = b""  # codec state after the last whole utterance; empty before it, and from an older codec
    continues: bool = False  # another utterance may follow the current one
    key_id: str = ""  # of the mark, for a clip that another gateway began; "" is the codec's active key
