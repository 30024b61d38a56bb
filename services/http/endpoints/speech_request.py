"""The body of a speech request, and its conversion to options of the client. The gateway checks the values."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from csm.rvq.v1 import rvq_pb2
from csm_client import StreamOptions, Turn
from csm_client.files import SEALED, is_unicode
from csm_client.requests import Codes
from csm_client.tables.sampling import LARGEST_FLOAT, SAMPLING
from google.protobuf.message import DecodeError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.common.rpc.messages import has_too_many_values
from services.http.api.errors import wrong_field
from services.http.api.formats import DEFAULT_FORMAT, encoding_of
from services.http.api.names import Names

INT32, INT64 = 2**31 - 1, 2**63 - 1  # limits of protobuf fields
MOST_S = 3e11  # limit of protobuf durations
MIN_SPEED, MAX_SPEED = 0.25, 4.0


def _voice_name(value: object) -> object:
    """The name in {"id": name}."""
    if isinstance(value, Mapping):
        if set(value) != {"id"} or not isinstance(value["id"], str):
            raise ValueError('Input should be a name, or {"id": name}')
        return value["id"]
    return value


def _unicode(value: str) -> str:
    if not is_unicode(value):
        raise ValueError("Input should be valid Unicode; it has half of a surrogate pair")
    return value


Text = Annotated[str, AfterValidator(_unicode)]
VoiceName = Annotated[
    Text,
    BeforeValidator(_voice_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
            ]
        }
    ),
]


class Body(BaseModel):
    """A JSON object without unknown fields and without silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ContextTurn(Body):
    """One turn of the conversation so far."""

    text: Text = Field(description="The words that were spoken.")
    speaker: int = Field(default=0, ge=-INT32, le=INT32, description="The model's number of the speaker.")
    audio: str | None = Field(default=None, description="A recording of the turn: a whole audio file in base64.")
    codes: str | None = Field(
        default=None, description="The `codes` of an earlier answer, unchanged, instead of `audio`."
    )


class SpeechConfig(Body):
    """All options of speech, without the text."""

    model: Text = Field(default="", description="A name from /v1/models. There is one model.")
    voice: VoiceName = Field(default="", description="A name from /v1/audio/voices; empty is the default voice.")
    response_format: Text = Field(default=DEFAULT_FORMAT, description="mp3, opus, aac, flac, wav, pcm, mulaw or alaw.")
    speed: float = Field(
        default=1.0,
        description="1 is the natural speed. The pitch does not change.",
        json_schema_extra={"minimum": MIN_SPEED, "maximum": MAX_SPEED},
    )
    instructions: str | None = Field(
        default=None, description="Has no effect. The response header X-Ignored-Parameters names it."
    )
    language: Text = Field(default="", description="BCP-47 tag of a language that the voice must speak.")
    speaker: int | None = Field(
        default=None, ge=-INT32, le=INT32, description="The model's number of the speaker; default: the voice's."
    )
    sample_rate: int = Field(default=0, ge=-INT32, le=INT32, description="In Hz; 0 is the model's own rate.")
    seed: int | None = Field(default=None, ge=-INT64, le=INT64, description="The same seed gives the same audio.")
    temperature: float | None = Field(
        default=None, description="Sampling temperature; 0 is greedy. Default: the server's."
    )
    top_k: int | None = Field(
        default=None, ge=-INT32, le=INT32, description="Sample each code from so many likeliest ones."
    )
    max_audio_seconds: float | None = Field(
        default=None, ge=-MOST_S, le=MOST_S, description="Maximum length of the audio."
    )
    context: list[ContextTurn] = Field(default_factory=list, description="The conversation so far, oldest turn first.")
    conversation_id: Text = Field(
        default="",
        description="The same for all turns of a conversation, so that they go to the engine that has the earlier ones"
        " in its cache: at most 128 characters.",
    )
    return_codes: bool = Field(
        default=False,
        description="Return the codes of the audio, for the context of later turns. Needs stream_format sse.",
    )


class SpeechRequest(SpeechConfig):
    """The body of POST /v1/audio/speech."""

    input: Text = Field(description="The text to speak.")
    as_one_utterance: bool = Field(
        default=False, description="Synthesize the whole text at once, not sentence by sentence."
    )
    stream_format: Literal["audio", "sse"] = Field(
        default="audio", description="audio: the bytes; sse: server-sent events with base64."
    )


def context_size(config: SpeechConfig) -> int:
    """About how many bytes of its message the conversation so far is."""
    return sum(len(turn.text) + len(turn.audio or "") + len(turn.codes or "") for turn in config.context)


def ignored_parameters(config: SpeechConfig) -> list[str]:
    """Parameters of the request that have no effect."""
    return ["instructions"] if config.instructions else []


def client_options(config: SpeechConfig, names: Names, request_id: str) -> StreamOptions:
    """The options of the client. Raises ApiError for what this server does not support."""
    if not MIN_SPEED <= config.speed <= MAX_SPEED:  # the gateway would take 0 for 1
        why = f"is {config.speed:g}; it must be {MIN_SPEED:g} to {MAX_SPEED:g}."
        raise wrong_field("speed", why, code="speed_out_of_range")
    if config.temperature is not None and abs(config.temperature) > LARGEST_FLOAT:
        why = f"is {config.temperature:g}; it must be {SAMPLING['temperature'].allowed}."
        raise wrong_field("temperature", why, code="invalid_request")  # as the gateway answers to other ones
    options: dict[str, Any] = {
        "voice": names.voice(config.voice),
        "language": config.language,
        "encoding": encoding_of(config.response_format),
        "sample_rate_hz": config.sample_rate,
        "return_codes": config.return_codes,
        "request_id": request_id,
        "context": [_turn(index, turn) for index, turn in enumerate(config.context)],
        "conversation_id": config.conversation_id,
        "speed": config.speed,
    }
    given = {
        "speaker": config.speaker,
        "max_seconds": config.max_audio_seconds,
        "seed": config.seed,
        "temperature": config.temperature,
        "top_k": config.top_k,
    }
    options |= {name: value for name, value in given.items() if value is not None}
    return StreamOptions(**options)  # type: ignore[typeddict-item, no-any-return]


def _turn(index: int, turn: ContextTurn) -> Turn:
    audio, codes = recording_of(f"context[{index}].", turn.audio, turn.codes)
    return Turn(turn.speaker, turn.text, audio, codes)


def recording_of(path: str, audio: str | None, codes: str | None) -> tuple[bytes | None, Codes | None]:
    """A recording and codes of an earlier answer from their base64; one of them at most. Raises ApiError.

    path: what is before the names of the fields `audio` and `codes`
    """
    if audio is not None and codes is not None:
        raise wrong_field(f"{path}codes", "must not be beside audio; one of them is enough.")
    if audio is not None:
        return _decoded(f"{path}audio", audio), None
    if codes is None:
        return None, None
    content = _decoded(f"{path}codes", codes)
    if content.startswith(SEALED):
        return None, content
    try:
        if not has_too_many_values(content, rvq_pb2.CodeFrames.DESCRIPTOR):
            return None, rvq_pb2.CodeFrames.FromString(content)
    except DecodeError:
        pass
    raise wrong_field(f"{path}codes", "is not what an answer returned.")


def _decoded(field: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise wrong_field(field, "is no base64.") from None
