"""Converts prompts from files into codes: decoded in a thread, encoded by the codec."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import grpc
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.common import frames
from services.common.rpc.status import StatusError
from services.gateway.audio.recording import Recording
from services.gateway.stages.backends import Encodes
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import StageError, check_encoder
from services.gateway.voices.voice import Prompt

# From a file and a timeout in seconds: its samples. Raises BrokenPromptError, StatusError.
Decode = Callable[[bytes, float], AbstractAsyncContextManager[Recording]]


class BrokenPromptError(Exception):
    """A prompt that the operator must repair; the message says why. is_new: it was not reported before"""

    def __init__(self, why: str, *, is_new: bool = True) -> None:
        super().__init__(why)
        self.is_new = is_new


async def encoded(text: str, file: bytes, catalog: Catalog, decode: Decode, codec: Encodes, timeout_s: float) -> Prompt:
    """The prompt of a recording. Raises BrokenPromptError, StageError, and StatusError for want of memory and for
    CODEC_CHANGED.
    """
    async with decode(file, timeout_s) as recording:
        config = codec_pb2.StreamEncodeConfig(
            sample_format=recording.sample_format, sample_rate_hertz=recording.sample_rate_hz
        )
        try:
            answer = await codec.encode(config, recording.pieces(), timeout_s)
        except StageError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT:  # no field of the caller's
                why = "; ".join(violation.description for violation in error.field_violations)
                raise BrokenPromptError(f"its recording: {why or error.message}") from None
            raise
    check_encoder(answer, catalog.identity)
    return checked(text, answer.codes, catalog)


def checked(text: str, codes: rvq_pb2.CodeFrames, catalog: Catalog) -> Prompt:
    """The prompt, which is one turn, whatever its codes tell of the utterances that they were generated as.

    Raises BrokenPromptError for codes that the model cannot take.
    """
    try:
        frames.check_shape(codes, catalog.identity.codebook_count)
        frames.check_range(codes, catalog.identity.codebook_size)
    except frames.MalformedFramesError as error:
        raise BrokenPromptError(str(error)) from None
    codes.ClearField("utterances")
    return Prompt(text, codes)


def broken(name: str, why: str) -> StatusError:
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, "VOICE_BROKEN", f"The voice '{name}' cannot be used: {why}")
