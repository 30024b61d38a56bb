"""Encodes the recordings of a context into codes. It knows no public message."""

from __future__ import annotations

from dataclasses import replace

from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.gateway.stages.backends import Encodes
from services.gateway.stages.errors import StageError, check_encoder
from services.gateway.synthesis.context_fields import recording_in_public_terms
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn


async def put_codes(
    turns: list[ContextTurn], codec: Encodes, identity: rvq_pb2.CodecIdentity, deadline: Deadline
) -> None:
    """Replaces the recordings in `turns` by codes, one by one, since a codec encodes one at a time.

    Each recording is released when its last samples are sent. identity: of the codec whose codes the model speaks.
    Raises StageError, and StatusError CODEC_CHANGED when a codec of another identity answers.
    """
    for index in range(len(turns)):  # not `enumerate`, which would keep a reference to the turn and its recording
        turn = turns[index]
        if turn.recording is not None:
            config = codec_pb2.StreamEncodeConfig(
                sample_format=turn.recording.sample_format, sample_rate_hertz=turn.recording.sample_rate_hz
            )
            samples = turn.recording.pieces()
            turns[index] = turn = replace(turn, recording=None)
            try:
                answer = await codec.encode(config, samples, deadline.remaining_s)
            except StageError as error:
                raise recording_in_public_terms(error, f"context.turns[{index}].audio.recording") from None
            check_encoder(answer, identity)
            turns[index] = replace(turn, codes=answer.codes)
