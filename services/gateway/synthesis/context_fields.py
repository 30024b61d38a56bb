"""Field paths of the stages' own APIs, told in the public API's words."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.common.rpc.status import FieldViolation, told_together
from services.gateway.stages.errors import StageError

_SEGMENT = re.compile(r"segments\[(\d+)\](?:\.(\w+))?")
_OF_TURN = {"speaker_id": ".speaker", "text": ".text", "codes": ".audio.codes"}
_OF_INPUT = {"speaker_id": ".speaker", "text": ".text"}
_OF_RECORDING = {"samples": ".audio_content", "sample_rate_hertz": ".audio_format.sample_rate_hertz"}


def public_field(field: str, turn_count: int) -> str:
    """`segments[1].speaker_id` is `context.turns[1].speaker`, or `input.speaker` when it is the last."""
    if field == "max_frame_count":
        return "max_audio_duration"
    match = _SEGMENT.match(field)
    if match is None:
        return field
    index, part = int(match[1]), match[2] or ""
    if index >= turn_count:
        return "input" + _OF_INPUT.get(part, "")
    return f"context.turns[{index}]" + _OF_TURN.get(part, "")


def recording_in_public_terms(error: StageError, recording: str) -> StageError:
    """The same failure of a call that carried one recording. recording: its path, such as "recording" """
    return renamed(error, lambda field: recording + _OF_RECORDING.get(field, ""))


def in_public_terms(error: StageError, turn_count: int) -> StageError:
    """The same failure, its fields as the caller knows them."""
    return renamed(error, lambda field: public_field(field, turn_count))


def renamed(error: StageError, public: Callable[[str], str]) -> StageError:
    """The same failure with other names for its fields, in its message as well."""
    if error.field_violations:
        error.field_violations = tuple(
            FieldViolation(public(v.field), v.description, v.reason) for v in error.field_violations
        )
        error.message = told_together(error.field_violations)
    return error
