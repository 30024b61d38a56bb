"""THE table of response formats: what each is called at the gateway, and its content type. The gateway makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csm.v1 import tts_pb2
from csm_client import Encoding
from csm_client.requests import StreamOptions
from csm_client.tables.encodings import ENCODINGS

from services.http.api.errors import wrong_field

DEFAULT_FORMAT = "mp3"  # as at OpenAI

CONTENT_TYPES: Mapping[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "mulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
}


def encoding_of(response_format: str) -> Encoding:
    """The client's name of a format. Raises ApiError for one that this release cannot ask for."""
    if response_format not in ENCODINGS:
        made = ", ".join(name for name in CONTENT_TYPES if name in ENCODINGS)
        raise wrong_field("response_format", f"is '{response_format}'; this server makes {made}.")
    return response_format


def speed_options(speed: float) -> dict[str, Any]:
    """The option of the client that has the speech stretched. Raises ApiError where the gateway cannot."""
    if "speed" in tts_pb2.AudioConfig.DESCRIPTOR.fields_by_name and "speed" in StreamOptions.__annotations__:
        return {"speed": speed}
    if speed != 1.0:
        raise wrong_field("speed", f"is {speed:g}; this server speaks at speed 1 alone.")
    return {}
