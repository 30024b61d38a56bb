"""Converts protos of the engine's API to the library's types and back."""

from __future__ import annotations

import numpy as np
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from csm_bundle.errors import InvalidRequestError
from csm_bundle.sampling import RecommendedSampling, SamplingParams
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import Codes, FinishReason, GenerationRequest, Segment
from services.common.frames import MalformedFramesError, check_shape
from services.common.rpc import field_paths
from services.common.values import seconds, set_fields

_FINISH_REASONS = {
    FinishReason.END_OF_SPEECH: engine_pb2.FINISH_REASON_END_OF_SPEECH,
    FinishReason.MAX_FRAMES: engine_pb2.FINISH_REASON_MAX_FRAMES,
    FinishReason.CONTEXT_WINDOW: engine_pb2.FINISH_REASON_CONTEXT_WINDOW,
}

_API_NAMES = {
    "max_frames": "max_frame_count",
    "sampling": "sampling_params",
    "resume": "resume_frames",
    "pinned_segments": "pinned_segment_count",
}


def to_request(message: engine_pb2.GenerateRequest, num_codebooks: int) -> GenerationRequest:
    """Raises: InvalidRequestError naming the first field that cannot be read."""
    _check_message_sizes(message)
    return GenerationRequest(
        request_id=message.request_id,
        segments=[_to_segment(index, segment, num_codebooks) for index, segment in enumerate(message.segments)],
        max_frames=message.max_frame_count,
        sampling=SamplingParams(**set_fields(message.sampling_params)),
        resume=_to_resume(message, num_codebooks),
        live=message.live,
        listener_frames=message.first_batch_frame_count or 1,
        speed=message.speed or 1.0,
        pinned_segments=message.pinned_segment_count,
        has_listener=message.has_listener,
        playout_lead_s=message.playout_lead.ToNanoseconds() / 1e9,
        is_followed=message.is_followed,
    )


def in_api_terms(error: InvalidRequestError) -> InvalidRequestError:
    """The same error of the library, its field as csm/engine/v1/engine.proto names it."""
    path = field_paths.parse(error.field)
    match path:
        case ("segments", int(index), "speaker"):
            path = ("segments", index, "speaker_id")
        case (str(first), *rest) if first in _API_NAMES:
            path = (_API_NAMES[first], *rest)
    return InvalidRequestError(field_paths.render(path), error.message)


def _check_message_sizes(message: engine_pb2.GenerateRequest) -> None:
    """Refuses negative numbers of frames per message. 0 means unset."""
    for field in ("first_batch_frame_count", "max_batch_frame_count"):
        if (count := getattr(message, field)) < 0:
            raise InvalidRequestError(field, f"is {count}; it must be 0 or more")


def _to_segment(index: int, segment: engine_pb2.Segment, num_codebooks: int) -> Segment:
    codes = None
    if segment.HasField("codes"):
        codes = to_codes(f"segments[{index}].codes", segment.codes, num_codebooks)
    return Segment(segment.speaker_id, segment.text, codes)


def _to_resume(message: engine_pb2.GenerateRequest, num_codebooks: int) -> Codes | None:
    if not message.resume_frames.frame_count:
        return None
    if message.resume_frames.first_frame_index:
        raise InvalidRequestError(
            "resume_frames.first_frame_index", f"is {message.resume_frames.first_frame_index}; it must be 0"
        )
    return to_codes("resume_frames", message.resume_frames, num_codebooks)


def to_codes(field: str, frames: rvq_pb2.CodeFrames, num_codebooks: int) -> Codes:
    """(frames, codebooks) int16. Raises: InvalidRequestError if the bytes are not what the numbers say."""
    try:
        check_shape(frames, num_codebooks)
    except MalformedFramesError as error:
        raise InvalidRequestError(field, str(error)) from None
    codes = np.frombuffer(frames.codes, dtype="<u2").reshape(frames.frame_count, num_codebooks)
    if int(codes.max()) > np.iinfo(np.int16).max:
        raise InvalidRequestError(
            field, f"holds the code {codes.max()}; no codebook has more than {np.iinfo(np.int16).max + 1} codes"
        )
    return codes.astype(np.int16)


def from_frames(first_frame_index: int, frames: list[Codes]) -> rvq_pb2.CodeFrames:
    """frames: (K,) int16 each, at least one."""
    return rvq_pb2.CodeFrames(
        first_frame_index=first_frame_index,
        frame_count=len(frames),
        codebook_count=len(frames[0]),
        codes=np.concatenate(frames).astype("<u2").tobytes(),
    )


def started(sequence: Sequence, weights_digest: str) -> engine_pb2.GenerateStarted:
    return engine_pb2.GenerateStarted(
        queue_duration=seconds(sequence.admitted_at - sequence.arrived_at),
        prompt_token_count=len(sequence.prompt),
        cached_token_count=sequence.reused,
        dropped_segment_count=sequence.prompt.dropped_segments,
        text_token_count=sequence.prompt.text_token_count,
        weights_digest=weights_digest,
    )


def from_recommended(sampling: RecommendedSampling) -> engine_pb2.SamplingParams:
    return engine_pb2.SamplingParams(**sampling.given())


def complete(sequence: Sequence) -> engine_pb2.GenerateComplete:
    assert sequence.finish_reason is not None
    return engine_pb2.GenerateComplete(
        finish_reason=_FINISH_REASONS[sequence.finish_reason],
        frame_count=sequence.num_frames,
        prefill_duration=seconds(sequence.prefill_seconds),
        decode_duration=seconds(sequence.decode_seconds),
        backbone_duration=seconds(sequence.backbone_seconds),
        depth_decoder_duration=seconds(sequence.depth_decoder_seconds),
    )
