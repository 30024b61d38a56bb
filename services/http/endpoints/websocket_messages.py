"""Messages of WS /v1/audio/stream: what a client may send.

The names are vLLM-Omni's; the `{"text": ...}` of ElevenLabs works too.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from services.http.api.bodies import check_values, values_in
from services.http.api.errors import ApiError, from_validation
from services.http.api.upstream import LONGEST_TOKEN
from services.http.endpoints.speech_request import Body, SpeechConfig, Text

FIRST_HALF, SECOND_HALF = re.compile("[\ud800-\udbff]"), re.compile("[\udc00-\udfff]")  # of a surrogate pair
LONGEST_PIECE = 1000  # characters in a message to the gateway; any gateway takes as many

AudioIn = Literal["binary", "base64"]  # messages, the second in JSON


class SessionConfig(SpeechConfig):
    """The first message, and any later one that changes what comes next."""

    type: Literal["session.config"] = "session.config"
    response_format: Text = Field(default="pcm", description="As in the body of a request to /v1/audio/speech.")
    audio: AudioIn = Field(default="binary", description="binary: audio in binary messages; base64: in JSON messages.")
    token: str | None = Field(
        default=None,
        max_length=LONGEST_TOKEN,
        description="Bearer token, for browsers: they cannot set the Authorization header.",
    )


class InputText(Body):
    """A piece of the text, cut anywhere, spaces included: also within a surrogate pair, of which each piece then has a
    half. `flush` ends its sentence.
    """

    type: Literal["input.text"] = "input.text"
    text: Text = Field(max_length=100_000)
    flush: bool = False


class InputFlush(Body):
    """Ends the sentence."""

    type: Literal["input.flush"]


class InputDone(Body):
    """Ends the text: what has come is spoken to its end."""

    type: Literal["input.done"]


class InputCancel(Body):
    """Stops speaking at once, and drops what has not been spoken."""

    type: Literal["input.cancel"]


TYPES = ("session.config", "input.text", "input.flush", "input.done", "input.cancel")
ClientMessage = SessionConfig | InputText | InputFlush | InputDone | InputCancel
_LATER: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])
_TEXT: TypeAdapter[InputText] = TypeAdapter(InputText)
_FIRST: TypeAdapter[SessionConfig] = TypeAdapter(SessionConfig)


def parse_first(message: str | bytes) -> SessionConfig:
    """Raises ApiError."""
    check_values(values_in(message))
    try:
        _TEXT.validate_json(message)
    except ValidationError:
        return _parsed(_FIRST, message)
    why = 'The first message must be {"type": "session.config"}, with fields if you like.'
    raise ApiError(400, why, param="type", code="invalid_value")


def parse_later(message: str | bytes) -> ClientMessage:
    """A message without `type` is a text, and an empty one ends it. Raises ApiError."""
    check_values(values_in(message))
    try:
        found = _TEXT.validate_json(message)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        if problems[0]["type"] == "json_invalid" and (cut := _cut_text(message)) is not None:
            return cut
        if all(problem["loc"] != ("type",) for problem in problems):
            raise _wrong(error) from None
        return _parsed(_LATER, message)
    ends = not found.text and not found.flush and "type" not in found.model_fields_set
    return InputDone(type="input.done") if ends else found


def _cut_text(message: str | bytes) -> InputText | None:
    """A text that begins or ends with half of a surrogate pair, which is no JSON to pydantic; None for other messages.

    Raises ApiError for a half within the text.
    """
    try:
        value = json.loads(message if isinstance(message, str) else message.decode())
    except (ValueError, RecursionError):
        return None
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        return None
    whole = text[1 if SECOND_HALF.match(text) else 0 :]
    whole = whole[:-1] if FIRST_HALF.match(whole[-1:]) else whole
    try:
        found = _TEXT.validate_python(value | {"text": whole})
    except ValidationError as error:
        raise _wrong(error) from None
    return found.model_copy(update={"text": text})


T = TypeVar("T")


def _parsed(adapter: TypeAdapter[T], message: str | bytes) -> T:
    try:
        return adapter.validate_json(message)
    except ValidationError as error:
        raise _wrong(error) from None
    except RecursionError:
        raise ApiError(400, "The message is nested too deeply.", code="invalid_value") from None


def _wrong(error: ValidationError) -> ApiError:
    """Of fields of the message, without the type that stands before their names."""
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["loc"] and str(problem["loc"][0]) in TYPES:
            problem["loc"] = problem["loc"][1:]
        if problem["type"] == "union_tag_invalid":
            problem["loc"] = ("type",)
    return from_validation(problems, "message")
