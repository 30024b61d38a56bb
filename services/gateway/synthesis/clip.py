"""The audio of one call as the codec marks it: one clip, of one utterance or of several. It knows no RPC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Clip:
    """Its utterances are decoded one after the other, each perhaps at another replica, and go on from `resume`."""

    resume: bytes = b""  # the codec's, after the last whole utterance; empty before, and from an earlier version
    continues: bool = False  # another utterance may follow the one that is decoded now
