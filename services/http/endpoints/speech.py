"""POST /v1/audio/speech."""

from __future__ import annotations

import time

from csm_client import AsyncClient
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.http.api.bodies import forget_body
from services.http.api.errors import unknown_model, wrong_field
from services.http.door import Door, door_of
from services.http.endpoints.audio_response import AudioResponse
from services.http.endpoints.speech_request import SpeechRequest, client_options

_AUDIO = {"type": "string", "format": "binary"}


router = APIRouter()


@router.post(
    "/v1/audio/speech",
    summary="Speech from text, as it is made",
    response_class=Response,
    responses={
        200: {
            "description": "The audio, or its events",
            "content": {
                "audio/mpeg": {"schema": _AUDIO},
                "audio/wav": {"schema": _AUDIO},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        }
    },
)
async def create_speech(body: SpeechRequest, request: Request) -> AudioResponse:
    door = door_of(request)
    if body.return_codes and body.stream_format != "sse":
        raise wrong_field("return_codes", "needs stream_format sse: audio alone has no place for codes.")
    options = client_options(body, door.names, request.state.request_id)
    body.context.clear()
    forget_body(request)
    caller, began_s = door.upstream.caller(request.headers), time.monotonic()
    await check_model(door, door.upstream.client(caller), body.model)
    client = door.upstream.client(caller.since(began_s))
    options["as_one_utterance"] = body.as_one_utterance
    options["silence_without_words"] = True
    return AudioResponse(door, lambda: client.stream_synthesize(body.input, **options), body)


async def check_model(door: Door, client: AsyncClient, name: str) -> None:
    """Raises ApiError 404 for a model that is not here."""
    if not name or door.names.is_model(name):
        return
    own = (await client.server_info()).model_version
    if name != own:
        raise unknown_model(name, [*door.names.models, own])
