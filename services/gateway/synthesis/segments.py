"""Turns of the context as segments of the engine: one segment, or one for each utterance that an answer consists of.

The engine has cached the keys and values of an answer utterance by utterance. It finds them again only if the answer
comes back as the same utterances. It knows no RPC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.common.frames import BYTES_PER_CODE
from services.gateway.synthesis.plan import ContextTurn


def segments_of(turns: Iterable[ContextTurn]) -> list[engine_pb2.Segment]:
    """The segments of all turns, in order."""
    return [segment for turn in turns for segment in _of_turn(turn)]


def turn_indices(turns: Sequence[ContextTurn]) -> list[int]:
    """For each segment the index of its turn."""
    return [index for index, turn in enumerate(turns) for _ in range(_count(turn))]


def dropped_turns(turns: Sequence[ContextTurn], num_dropped: int) -> int:
    """Number of turns that have lost a segment when the oldest `num_dropped` segments were dropped."""
    return len(set(turn_indices(turns)[:num_dropped]))


def answer_codes(utterances: Sequence[tuple[str, rvq_pb2.CodeFrames]], codebook_count: int) -> rvq_pb2.CodeFrames:
    """The codes of an answer, with the lengths of its utterances. utterances: texts and codes, in order"""
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
    """At least one segment. Utterances without audio are left out, as they were when the answer was generated."""
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
