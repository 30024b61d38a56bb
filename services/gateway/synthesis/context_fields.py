"""Translates field paths of the engine's and codec's APIs into paths of the public API, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.common.rpc.field_paths import FieldPath, parse, render
from services.common.rpc.status import FieldViolation, message_of
from services.gateway.stages.errors import StageError

# Fields of csm.engine.v1.Segment as those of csm.v1.Turn and csm.v1.SynthesisInput.
_OF_TURN: Mapping[str, FieldPath] = {"speaker_id": ("speaker",), "text": ("text",), "codes": ("audio", "codes")}
_OF_INPUT: Mapping[str, FieldPath] = {"speaker_id": ("speaker",), "text": ("text",)}
# Fields of the codec's requests as those of csm.v1.AudioRecording.
_OF_RECORDING: Mapping[FieldPath, FieldPath] = {
    ("samples",): ("audio_content",),
    ("sample_rate_hertz",): ("audio_format", "sample_rate_hertz"),
}


def public_path(path: FieldPath, turn_indices: Sequence[int], *, has_prompt: bool) -> FieldPath:
    """The public path of a field of GenerateRequest. Its segments are the context's turns, then the input.

    turn_indices: of each segment of the context; has_prompt: the first segment is the voice's prompt
    """
    match path:
        case ("max_frame_count",):
            return ("max_audio_duration",)
        case ("segments", int(index), *rest):
            part = str(rest[0]) if rest else ""
            index -= has_prompt
            if index < 0:
                return ("voice", "name")
            if index >= len(turn_indices):
                return ("input", *_OF_INPUT.get(part, ()))
            return ("context", "turns", turn_indices[index], *_OF_TURN.get(part, ()))
    return path


def recording_in_public_terms(error: StageError, recording: str) -> StageError:
    """The failure of a call with one recording, in public field paths. recording: its path, such as "recording" """
    return renamed(error, lambda field: render((*parse(recording), *_OF_RECORDING.get(parse(field), ()))))


def in_public_terms(error: StageError, turn_indices: Sequence[int], *, has_prompt: bool) -> StageError:
    """The same failure, with the field paths that the caller knows. The others are as for `public_path`."""
    return renamed(error, lambda field: render(public_path(parse(field), turn_indices, has_prompt=has_prompt)))


def renamed(error: StageError, public: Callable[[str], str]) -> StageError:
    """The same failure with its fields renamed, also in its message."""
    if error.field_violations:
        error.field_violations = tuple(
            FieldViolation(public(v.field), v.description, v.reason) for v in error.field_violations
        )
        error.message = message_of(error.field_violations)
    return error
