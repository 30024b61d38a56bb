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
    """Puts codes in place of recordings, each as soon as it is encoded. The codec has one encoder, so one by one.

    A recording is taken out of its turn, and gone when its last samples are sent. identity: of the codec whose codes
    the model speaks. Raises StageError, and StatusError CODEC_CHANGED when another one answers.
    """
    for index in range(len(turns)):  # `enumerate` holds the turn that it has given, and so would the recording be held
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
