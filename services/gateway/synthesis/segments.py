"""The engine's segments of a context: a turn is one, or one for each utterance that its codes were generated as.

The engine has kept the keys and values of an answer's utterances, each behind the ones before. It finds them again only
if the answer comes back as the same utterances. It knows no RPC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.common.frames import BYTES_PER_CODE
from services.gateway.synthesis.plan import ContextTurn


def segments_of(turns: Iterable[ContextTurn]) -> list[engine_pb2.Segment]:
    """Those of all turns, in order."""
    return [segment for turn in turns for segment in _of_turn(turn)]


def turn_indices(turns: Sequence[ContextTurn]) -> list[int]:
    """Of each segment the index of its turn."""
    return [index for index, turn in enumerate(turns) for _ in range(_count(turn))]


def dropped_turns(turns: Sequence[ContextTurn], num_dropped: int) -> int:
    """How many turns have lost a segment when so many segments, the oldest ones, were dropped."""
    return len(set(turn_indices(turns)[:num_dropped]))


def answer_codes(utterances: Sequence[tuple[str, rvq_pb2.CodeFrames]], codebook_count: int) -> rvq_pb2.CodeFrames:
    """The codes of an answer, which say where its utterances end. utterances: texts and codes, in order"""
    answer = rvq_pb2.CodeFrames(codebook_count=codebook_count)
    for text, frames in utterances:
        answer.utterances.add(text=text, frame_count=frames.frame_count)
        answer.frame_count += frames.frame_count
    answer.codes = b"".join(frames.codes for _, frames in utterances)
    return answer


def _count(turn: ContextTurn) -> int:
    if turn.codes is None or not turn.codes.utterances:
        return 1
    return sum(utterance.frame_count > 0 for utterance in turn.codes.utterances)


def _of_turn(turn: ContextTurn) -> list[engine_pb2.Segment]:
    """At least one. Utterances without sound are left out: no later utterance of their text had them as context."""
    codes = turn.codes
    if codes is None or not codes.utterances:
        return [engine_pb2.Segment(speaker_id=turn.speaker, text=turn.text, codes=codes)]
    frame_bytes, segments, first = BYTES_PER_CODE * codes.codebook_count, list[engine_pb2.Segment](), 0
    for utterance in codes.utterances:
        end = first + utterance.frame_count
        part = rvq_pb2.CodeFrames(
            frame_count=utterance.frame_count,
            codebook_count=codes.codebook_count,
            codes=codes.codes[first * frame_bytes : end * frame_bytes],
        )
        if part.frame_count:
            segments.append(engine_pb2.Segment(speaker_id=turn.speaker, text=utterance.text, codes=part))
        first = end
    return segments
