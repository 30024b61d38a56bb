"""Encodes the recordings of a context into codes. It knows no public message."""

from __future__ import annotations

from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.gateway.stages.backends import Encodes
from services.gateway.stages.errors import StageError
from services.gateway.synthesis.context_fields import recording_in_public_terms
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn


async def put_codes(turns: list[ContextTurn], codec: Encodes, deadline: Deadline) -> None:
    """Puts codes in place of recordings, each as soon as it is encoded. The codec has one encoder, so one by one."""
    for index, turn in enumerate(turns):
        if turn.recording is not None:
            request = codec_pb2.EncodeRequest(
                samples=turn.recording.samples,
                sample_format=turn.recording.sample_format,
                sample_rate_hertz=turn.recording.sample_rate_hz,
            )
            turns[index] = turn = ContextTurn(turn.speaker, turn.text)  # the samples are in the request now
            codes = await _codes(index, request, codec, deadline)
            turns[index] = ContextTurn(turn.speaker, turn.text, codes=codes)


async def _codes(
    index: int, request: codec_pb2.EncodeRequest, codec: Encodes, deadline: Deadline
) -> rvq_pb2.CodeFrames:
    try:
        return (await codec.encode(request, deadline.remaining_s)).codes
    except StageError as error:
        raise recording_in_public_terms(error, f"context.turns[{index}].audio.recording") from None
