"""Failures of engine and codec as the callers of the public API see them. It knows no request.

A stage that cannot be reached is UNAVAILABLE, which clients may retry; what a stage says about a request is passed on.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeVar

import grpc
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.common.rpc import status
from services.common.rpc.status import StatusError

log = logging.getLogger("csm.gateway")

StageName = Literal["ENGINE", "CODEC"]
Answer = TypeVar("Answer")

CODEC_CHANGED = "CODEC_CHANGED"
FULL = "QUEUE_FULL"  # reason of a stage with a full queue

# The codes of gRPC, on either side, when a server goes away without a status.
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
# The message of gRPC for a write after the end of the call. It hides the status of the other side.
_CUT_OFF_WRITE = "Internal error from Core"
_PASSED_ON = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
}


_OTHER_ENGINE = "The engine that answers is of another bundle than the one that was lost."
_OTHER_CODEC = (
    "The codec that answers is of another bundle (decoder or mark network) than the one that began this audio, or has"
    " another watermark key, and cannot go on with it. Call again without checkpoints to have the audio from its start;"
    " the operator gives all codecs one bundle."
)


class StageError(StatusError):
    """A failure of one stage."""

    def __init__(self, stage: StageName, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.stage = stage
        self.why = ""  # why no other replica took over: a sentence, also part of the message
        self.replica = ""  # id of the replica that answered, when it sent one
        self.known_replicas: frozenset[str] = frozenset()  # ids of the stage's replicas that have answered lately


def unreachable(stage: StageName) -> StageError:
    """The error when no replica of the stage answers, or the answering one is gone."""
    error = StageError(
        stage, grpc.StatusCode.UNAVAILABLE, f"{stage}_UNREACHABLE", f"The {stage.lower()} cannot be reached."
    )
    error.retry_delay_s = 1.0
    return error


def is_loss(error: StageError) -> bool:
    """Whether the replica is gone. Any other status is its answer, a full queue included."""
    return error.code is grpc.StatusCode.UNAVAILABLE and error.reason != FULL


def is_fault(error: StageError) -> bool:
    """Whether the replica is there but could not compute. It counts as a loss too."""
    return error.reason == f"{error.stage}_FAULT"


def is_misfit(error: StageError) -> bool:
    """Whether the replica is of another bundle than the stream. Other replicas may fit."""
    return error.reason == f"{error.stage}_MISMATCH"


def checked(stage: StageName, answer: Answer | None) -> Answer:
    """The answer, unless it was malformed, for which gRPC returns None: that raises a StageError that is a loss."""
    if answer is None:
        log.warning("the %s has answered with bytes that are no message", stage.lower())
        raise unreachable(stage)
    return answer


def too_old(stage: StageName) -> StageError:
    """The error of a stage that lacks a method."""
    what = f"The {stage.lower()} is of a version that lacks what the request needs; the operator upgrades it."
    return StageError(stage, grpc.StatusCode.FAILED_PRECONDITION, f"{stage}_TOO_OLD", what)


def other_model(stage: StageName) -> StageError:
    """The error of a replica with other weights or settings, which cannot resume the stream."""
    return StageError(
        stage,
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{stage}_MISMATCH",
        _OTHER_CODEC if stage == "CODEC" else _OTHER_ENGINE,
    )


def check_encoder(answer: codec_pb2.EncodeResponse, codec: rvq_pb2.CodecIdentity) -> None:
    """Raises StatusError UNAVAILABLE, reason CODEC_CHANGED, for codes of another codec than `codec`. They may have the
    same shape, but are noise to the model.
    """
    if answer.codec != codec:
        raise StatusError(
            grpc.StatusCode.UNAVAILABLE,
            CODEC_CHANGED,
            "The codec has changed while a recording was encoded; call again.",
            retry_delay_s=1.0,
        )


def broken(stage: StageName, message: str) -> StageError:
    """The error of a stage that violates its protocol."""
    log.error("the %s broke its protocol: %s", stage.lower(), message)
    hidden = status.internal()
    return StageError(stage, hidden.code, hidden.reason, hidden.message)


def from_stage(stage: StageName, error: grpc.aio.AioRpcError) -> StageError:
    """The StageError for a failed call, in the terms of the public API."""
    answer = status.from_rpc_error(error)
    has_details = answer.reason != answer.code.name
    if (answer.code in _LOST and not has_details) or answer.message == _CUT_OFF_WRITE:
        log.warning("the %s is lost: %s", stage.lower(), answer.message)
        return unreachable(stage)
    if answer.code is grpc.StatusCode.UNIMPLEMENTED:
        log.error("the %s lacks a method: it is of an older version", stage.lower())
        return too_old(stage)
    if answer.code not in _PASSED_ON or (answer.code is grpc.StatusCode.INTERNAL and not has_details):
        return broken(stage, f"{answer.code.name}: {answer.message}")
    passed_on = StageError(stage, answer.code, answer.reason, answer.message)
    passed_on.field_violations = answer.field_violations
    passed_on.retry_delay_s = answer.retry_delay_s
    passed_on.resource = answer.resource
    passed_on.metadata = answer.metadata
    return passed_on


def lost_after(error: StageError, delivered_sample_count: int) -> StageError:
    """The same failure after audio was sent: the call can no longer be retried transparently."""
    if error.code is not grpc.StatusCode.UNAVAILABLE or not delivered_sample_count:
        return error
    stage = error.stage.lower()
    if error.reason == FULL:
        reason, what = FULL, f"The {stage} has no room to go on"
    else:
        reason, what = f"{error.stage}_LOST", f"The {stage} was lost"
    message = f"{what} after {delivered_sample_count} samples; the audio is incomplete.{error.why}"
    lost = StageError(error.stage, error.code, reason, message)
    lost.why = error.why
    lost.metadata = {"delivered_sample_count": str(delivered_sample_count)}
    return lost
