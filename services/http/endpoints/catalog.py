"""GET /v1/audio/voices, GET /v1/models and GET /v1/models/NAME."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from csm.v1 import tts_pb2
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from services.http.api.errors import unknown_model
from services.http.door import door_of

OWNER = "csm"


router = APIRouter()


@router.get("/v1/audio/voices", summary="The voices that the caller may use", response_model=dict[str, Any])
async def list_voices(request: Request, language: str = "") -> JSONResponse:
    door = door_of(request)
    caller, began_s = door.upstream.caller(request.headers), time.monotonic()
    voices = await door.upstream.client(caller).list_voices(language)
    default = (await door.upstream.client(caller.since(began_s)).server_info()).default_voice
    # In a thread, and not by FastAPI: thousands of voices would stop every stream for a moment.
    return await asyncio.to_thread(lambda: JSONResponse(_listed(voices, door.names.voices, default)))


async def _model_ids(request: Request) -> list[str]:
    door = door_of(request)
    return list(
        dict.fromkeys(
            [(await door.upstream.client_of(request.headers).server_info()).model_version, *door.names.models]
        )
    )


@router.get("/v1/models", summary="The model, under every name that it has")
async def list_models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [_model(name) for name in await _model_ids(request)]}


@router.get("/v1/models/{model:path}", summary="The model under one of its names")
async def retrieve_model(model: str, request: Request) -> dict[str, Any]:
    known = await _model_ids(request)
    if model not in known and not door_of(request).names.is_model(model):
        raise unknown_model(model, known)
    return _model(model)


def described(voice: tts_pb2.Voice) -> dict[str, Any]:
    """What the JSON of a voice has everywhere."""
    return {
        "id": voice.name,
        "object": "voice",
        "name": voice.name,
        "languages": list(voice.language_codes),
        "description": voice.description,
        "speaker": voice.speaker,
        "seed": voice.seed if voice.HasField("seed") else None,
        "has_prompt": voice.has_prompt,
    }


def _listed(voices: Sequence[tts_pb2.Voice], aliases: Mapping[str, str], default: str) -> dict[str, Any]:
    found = [
        described(voice)
        | {
            "sample_rate": voice.natural_sample_rate_hertz,
            "aliases": [alias for alias, meant in aliases.items() if (meant or default) == voice.name],
        }
        for voice in voices
    ]
    return {"object": "list", "data": found, "voices": [voice.name for voice in voices]}


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}
