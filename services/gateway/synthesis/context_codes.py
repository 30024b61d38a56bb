"""Encodes the recordings of a context into codes. It knows no public message."""

from __future__ import annotations

from collections.abc import Sequence

from csm.codec.v1 import codec_pb2

from services.gateway.stages.backends import Encodes
from services.gateway.stages.errors import StageError
from services.gateway.synthesis.context_fields import recording_in_public_terms
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn


async def with_codes(turns: Sequence[ContextTurn], codec: Encodes, deadline: Deadline) -> tuple[ContextTurn, ...]:
    """The turns with codes in place of recordings. Recordings are encoded one by one: the codec has one encoder."""
    return tuple([await _with_codes(index, turn, codec, deadline) for index, turn in enumerate(turns)])


async def _with_codes(index: int, turn: ContextTurn, codec: Encodes, deadline: Deadline) -> ContextTurn:
    if turn.recording is None:
        return turn
    request = codec_pb2.EncodeRequest(
        samples=turn.recording.samples,
        sample_format=turn.recording.sample_format,
        sample_rate_hertz=turn.recording.sample_rate_hz,
    )
    try:
        codes = (await codec.encode(request, deadline.remaining_s)).codes
    except StageError as error:
        raise recording_in_public_terms(error, f"context.turns[{index}].audio.recording") from None
    return ContextTurn(turn.speaker, turn.text, codes=codes)
