"""POST /v1/audio/voices, and GET and DELETE of /v1/audio/voices/NAME: voices that callers store in the gateway."""

from __future__ import annotations

from typing import Any

from csm.v1 import voices_pb2
from csm_client import Consent, VoiceOptions
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from services.http.api.bodies import forget_body
from services.http.api.disconnect import until_disconnect
from services.http.api.errors import wrong_field
from services.http.door import door_of
from services.http.endpoints.catalog import described
from services.http.endpoints.speech_request import INT32, INT64, Body, Text, recording_of

_AUDIENCES = {
    voices_pb2.VOICE_AUDIENCE_OWNER: "owner",
    voices_pb2.VOICE_AUDIENCE_CALLERS: "callers",
    voices_pb2.VOICE_AUDIENCE_EVERYONE: "everyone",
}


class ConsentBody(Body):
    """That the person whose voice it is agrees."""

    id: Text = Field(description="Where the consent is stored.")
    text: Text = Field(description="What the person agreed to.")


class VoiceRequest(Body):
    """The body of POST /v1/audio/voices. A voice needs a prompt (text, audio or codes, consent), a seed, or both."""

    name: Text = Field(description="The name. No other voice of the server may have it.")
    text: Text = Field(default="", description="The words that are spoken in the recording.")
    audio: str | None = Field(default=None, description="A recording of the speaker: a whole audio file in base64.")
    codes: str | None = Field(default=None, description="The `codes` of an earlier answer, instead of `audio`.")
    consent: ConsentBody | None = Field(default=None, description="Required with `audio` or `codes`.")
    seed: int | None = Field(default=None, ge=-INT64, le=INT64, description="Seed of requests that set none.")
    speaker: int = Field(default=0, ge=-INT32, le=INT32, description="The model's number of the speaker.")
    languages: list[Text] = Field(default_factory=list, description="BCP-47 tags of its languages.")
    description: Text = Field(default="", description="A short description for people.")
    callers: list[Text] = Field(
        default_factory=list, description="Names of callers that may use it, besides its owner."
    )
    everyone: bool = Field(default=False, description="Every caller may use it.")


router = APIRouter()


@router.post("/v1/audio/voices", summary="Keeps a voice; its owner is the caller", status_code=201)
async def create_voice(body: VoiceRequest, request: Request) -> dict[str, Any]:
    options = voice_options(body)
    body.audio = None
    forget_body(request)
    door = door_of(request)
    with door.streams.one_more():
        creating = door.upstream.client_of(request.headers).create_voice(body.name, **options)
        return described_kept(await until_disconnect(request.receive, creating))


@router.get("/v1/audio/voices/{voice}", summary="One voice that the caller may use")
async def get_voice(voice: str, request: Request) -> dict[str, Any]:
    return described_kept(await door_of(request).upstream.client_of(request.headers).get_voice(voice))


@router.delete("/v1/audio/voices/{voice}", summary="Deletes a voice of the caller's", status_code=204)
async def delete_voice(voice: str, request: Request) -> Response:
    await door_of(request).upstream.client_of(request.headers).delete_voice(voice)
    return Response(status_code=204)


def voice_options(body: VoiceRequest) -> VoiceOptions:
    """The same for the client. Raises ApiError."""
    if body.callers and body.everyone:
        raise wrong_field("callers", "must be empty where everyone is true.")
    options = VoiceOptions(
        speaker=body.speaker,
        languages=body.languages,
        description=body.description,
        callers=body.callers,
        everyone=body.everyone,
    )
    audio, codes = recording_of("", body.audio, body.codes)
    if audio is not None:
        options["audio"] = audio
    if codes is not None:
        options["codes"] = codes
    if body.text:
        options["text"] = body.text
    if body.consent is not None:
        options["consent"] = Consent(body.consent.id, body.consent.text)
    if body.seed is not None:
        options["seed"] = body.seed
    return options


def described_kept(kept: voices_pb2.KeptVoice) -> dict[str, Any]:
    """The voice as JSON. Fields for its owner are left out for others."""
    voice = kept.voice
    found = described(voice) | {
        "owner": kept.owner,
        "audience": _AUDIENCES.get(kept.audience, "unknown"),
        "prompt_seconds": kept.prompt_duration.ToNanoseconds() / 1e9 if kept.HasField("prompt_duration") else None,
    }
    if kept.callers:
        found["callers"] = list(kept.callers)
    if kept.HasField("consent"):
        found["consent"] = {"id": kept.consent.id, "text": kept.consent.text}
    if kept.prompt_text:
        found["prompt_text"] = kept.prompt_text
    if kept.HasField("create_time"):
        found["created"] = kept.create_time.ToSeconds()
    return found
