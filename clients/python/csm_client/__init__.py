"""Client of csm.v1: speech from text over gRPC, asynchronous first, with a synchronous twin and the `csm` program."""

from csm_client.async_client import AsyncClient, AsyncSpeechStream
from csm_client.client import Client, SpeechStream
from csm_client.errors import (
    ContextFileError,
    CsmClientError,
    DeadlineExceededError,
    FieldViolation,
    IncompleteAudioError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    ResourceExhaustedError,
    ServerError,
    UnavailableError,
)
from csm_client.files import WavFile, load_context, save_codes
from csm_client.requests import SpeechOptions, StreamOptions, Turn
from csm_client.speech import Speech

__all__ = [
    "AsyncClient",
    "AsyncSpeechStream",
    "Client",
    "ContextFileError",
    "CsmClientError",
    "DeadlineExceededError",
    "FieldViolation",
    "IncompleteAudioError",
    "InternalServerError",
    "InvalidRequestError",
    "NotFoundError",
    "ResourceExhaustedError",
    "ServerError",
    "Speech",
    "SpeechOptions",
    "SpeechStream",
    "StreamOptions",
    "Turn",
    "UnavailableError",
    "WavFile",
    "load_context",
    "save_codes",
]
