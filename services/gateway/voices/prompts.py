"""Prompts that are files, as codes: decoded in a thread, encoded by the codec once, then held in memory."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

import grpc
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from services.common import frames
from services.common.rpc.status import StatusError
from services.gateway.audio.decoders import UnreadableAudioError
from services.gateway.audio.encodings import ENCODINGS
from services.gateway.audio.pieces import joined
from services.gateway.audio.recording import Recording
from services.gateway.stages.backends import Encodes
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import StageError
from services.gateway.voices.voice import Prompt, identity_values

MAX_HELD = 256  # 24 KB each for 30 s of 32 codebooks

_Key = tuple[str, str]


class PromptCache:
    """Prompts by their digest and the codec. Calls for one that is being made wait for it."""

    def __init__(self) -> None:
        self._held: OrderedDict[_Key, Prompt] = OrderedDict()
        self._making: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()  # held by those that wait

    async def get(self, digest: str, catalog: Catalog, make: Callable[[], Awaitable[Prompt]]) -> Prompt:
        """The prompt; `make` makes it, and its failure is raised."""
        key = (digest, str(identity_values(catalog.identity)))
        if key not in self._held:
            async with self._making.setdefault(key, asyncio.Lock()):
                if key not in self._held:
                    self._held[key] = await make()
        self._held.move_to_end(key)
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)
        return self._held[key]


async def encoded(name: str, text: str, file: bytes, catalog: Catalog, codec: Encodes, timeout_s: float) -> Prompt:
    """The prompt of a recording. file: WAV, or Ogg Opus. Raises StatusError FAILED_PRECONDITION, StageError."""
    try:
        recording = await asyncio.to_thread(_read, file)
    except UnreadableAudioError as error:
        raise broken(name, f"its recording {error}") from None
    config = codec_pb2.StreamEncodeConfig(
        sample_format=recording.sample_format, sample_rate_hertz=recording.sample_rate_hz
    )
    try:
        codes = (await codec.encode(config, recording.pieces(), timeout_s)).codes
    except StageError as error:
        if error.code is grpc.StatusCode.INVALID_ARGUMENT:  # no field of the caller's
            why = "; ".join(violation.description for violation in error.field_violations)
            raise broken(name, f"its recording: {why or error.message}") from None
        raise
    return checked(name, text, codes, catalog)


def checked(name: str, text: str, codes: rvq_pb2.CodeFrames, catalog: Catalog) -> Prompt:
    """Raises StatusError FAILED_PRECONDITION for codes that the model cannot take."""
    try:
        frames.check_shape(codes, catalog.identity.codebook_count)
        frames.check_range(codes, catalog.identity.codebook_size)
    except frames.MalformedFramesError as error:
        raise broken(name, str(error)) from None
    return Prompt(text, codes)


def broken(name: str, why: str) -> StatusError:
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, "VOICE_BROKEN", f"The voice '{name}' cannot be used: {why}")


def _read(file: bytes) -> Recording:
    is_wav = file.startswith(b"RIFF")
    encoding = ENCODINGS[tts_pb2.AUDIO_ENCODING_WAV if is_wav else tts_pb2.AUDIO_ENCODING_OGG_OPUS]
    read = joined(encoding.open_pieces(io.BytesIO(file), 1, 0), float("inf"))
    if not read.samples:
        raise UnreadableAudioError("holds no samples.")
    return read
