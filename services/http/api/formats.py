"""The table of response formats and their content types."""

from __future__ import annotations

from collections.abc import Mapping

from csm_client import Encoding
from csm_client.tables.encodings import ENCODINGS

from services.http.api.errors import MOST_SHOWN, wrong_field

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
    """The client's name of a format. Raises ApiError for an unknown one."""
    if response_format not in ENCODINGS:
        made = ", ".join(name for name in CONTENT_TYPES if name in ENCODINGS)
        raise wrong_field("response_format", f"is '{response_format[:MOST_SHOWN]}'; this server makes {made}.")
    return response_format
