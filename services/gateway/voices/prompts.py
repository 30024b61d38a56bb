"""Converts prompts from files into codes: decoded in a thread, encoded by the codec once, then cached."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from weakref import WeakValueDictionary

import grpc
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.common import frames
from services.common.rpc.status import StatusError
from services.gateway.audio.recording import Recording
from services.gateway.stages.backends import Encodes
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import StageError, check_encoder
from services.gateway.voices.voice import Prompt, identity_values

MAX_HELD = 256  # 24 KB each for 30 s of 32 codebooks
BROKEN_S = 60.0  # how long a broken prompt is not read again

# From a file and a timeout in seconds: its samples. Raises BrokenPromptError, StatusError.
Decode = Callable[[bytes, float], AbstractAsyncContextManager[Recording]]

_Key = tuple[str, str]


class BrokenPromptError(Exception):
    """A prompt that the operator must repair; the message says why. is_new: not from the cache"""

    def __init__(self, why: str, *, is_new: bool = True) -> None:
        super().__init__(why)
        self.is_new = is_new


class PromptCache:
    """Prompts by their digest and the codec. Concurrent calls for the same prompt wait for one of them to make it."""

    def __init__(self) -> None:
        self._held: OrderedDict[_Key, Prompt] = OrderedDict()
        self._broken: OrderedDict[_Key, tuple[float, str]] = OrderedDict()  # until when, and why
        self._making: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()  # held by those that wait

    async def get(self, digest: str, catalog: Catalog, make: Callable[[], Awaitable[Prompt]]) -> Prompt:
        """The cached prompt, else what `make` returns. A BrokenPromptError is cached too, for BROKEN_S."""
        key = (digest, str(identity_values(catalog.identity)))
        if key not in self._held:
            async with self._making.setdefault(key, asyncio.Lock()):
                if key not in self._held:
                    self._held[key] = await self._made(key, make)
        self._held.move_to_end(key)
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)
        return self._held[key]

    async def _made(self, key: _Key, make: Callable[[], Awaitable[Prompt]]) -> Prompt:
        until_s, why = self._broken.get(key, (0.0, ""))
        if time.monotonic() < until_s:
            raise BrokenPromptError(why, is_new=False)
        try:
            return await make()
        except BrokenPromptError as error:
            self._broken[key] = (time.monotonic() + BROKEN_S, str(error))
            self._broken.move_to_end(key)
            while len(self._broken) > MAX_HELD:
                self._broken.popitem(last=False)
            raise


async def encoded(text: str, file: bytes, catalog: Catalog, decode: Decode, codec: Encodes, timeout_s: float) -> Prompt:
    """The prompt of a recording. Raises BrokenPromptError, StageError, and StatusError for want of memory and for
    CODEC_CHANGED.
    """
    async with decode(file, timeout_s) as recording:
        config = codec_pb2.StreamEncodeConfig(
            sample_format=recording.sample_format, sample_rate_hertz=recording.sample_rate_hz
        )
        try:
            answer = await codec.encode(config, recording.pieces(), timeout_s)
        except StageError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT:  # no field of the caller's
                why = "; ".join(violation.description for violation in error.field_violations)
                raise BrokenPromptError(f"its recording: {why or error.message}") from None
            raise
    check_encoder(answer, catalog.identity)
    return checked(text, answer.codes, catalog)


def checked(text: str, codes: rvq_pb2.CodeFrames, catalog: Catalog) -> Prompt:
    """The prompt, which is one turn, whatever its codes tell of the utterances that they were generated as.

    Raises BrokenPromptError for codes that the model cannot take.
    """
    try:
        frames.check_shape(codes, catalog.identity.codebook_count)
        frames.check_range(codes, catalog.identity.codebook_size)
    except frames.MalformedFramesError as error:
        raise BrokenPromptError(str(error)) from None
    codes.ClearField("utterances")
    return Prompt(text, codes)


def broken(name: str, why: str) -> StatusError:
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, "VOICE_BROKEN", f"The voice '{name}' cannot be used: {why}")
