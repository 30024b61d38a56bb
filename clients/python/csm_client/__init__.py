"""Client of csm.v1: speech from text over gRPC, asynchronous first, with a synchronous twin and the `csm` program."""

from csm_client.async_client import AsyncClient, AsyncSpeechStream
from csm_client.audio_files import AudioFile, WavFile
from csm_client.channel import TlsOptions
from csm_client.client import Client, SpeechStream
from csm_client.credentials import ConnectionOptions, load_token
from csm_client.errors import (
    ClientClosedError,
    ContextFileError,
    CsmClientError,
    DeadlineExceededError,
    FieldViolation,
    IncompleteAudioError,
    InputTextError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    OutputFileError,
    PlayerError,
    RecordingFileError,
    ResourceExhaustedError,
    ServerError,
    SpeakerError,
    TlsFileError,
    TokenError,
    UnauthenticatedError,
    UnavailableError,
    is_wordless,
)
from csm_client.files import load_context, save_codes
from csm_client.requests import Consent, SpeechOptions, StreamOptions, Turn, VoiceOptions
from csm_client.speech import Speech
from csm_client.tables.encodings import Encoding

__version__ = "0.2.0"

__all__ = [
    "AsyncClient",
    "AsyncSpeechStream",
    "AudioFile",
    "Client",
    "ClientClosedError",
    "ConnectionOptions",
    "Consent",
    "ContextFileError",
    "CsmClientError",
    "DeadlineExceededError",
    "Encoding",
    "FieldViolation",
    "IncompleteAudioError",
    "InputTextError",
    "InternalServerError",
    "InvalidRequestError",
    "NotFoundError",
    "OutputFileError",
    "PlayerError",
    "RecordingFileError",
    "SpeakerError",
    "ResourceExhaustedError",
    "ServerError",
    "Speech",
    "SpeechOptions",
    "SpeechStream",
    "StreamOptions",
    "TlsFileError",
    "TlsOptions",
    "TokenError",
    "Turn",
    "UnauthenticatedError",
    "UnavailableError",
    "VoiceOptions",
    "WavFile",
    "is_wordless",
    "load_context",
    "load_token",
    "save_codes",
]
