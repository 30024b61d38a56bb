"""Finds the voice of a request: among the model's, in the operator's folder, then in the database.

For a caller that may not use a voice, it does not exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Protocol

import grpc
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2
from google.protobuf.message import DecodeError

from csm_bundle.voice_folder import FolderVoice
from services.common.rpc.status import StatusError
from services.gateway.metrics import GatewayMetrics
from services.gateway.stages.backends import DescribesVoices, Encodes
from services.gateway.stages.catalog import Catalog
from services.gateway.voices.folder import VoiceFolder
from services.gateway.voices.listing import (
    ListedVoice,
    ListsVoices,
    fits,
    listed_folder,
    listed_model,
    may_use,
    page_of,
)
from services.gateway.voices.place import Place
from services.gateway.voices.prompt_cache import MAKING_S, PromptCache
from services.gateway.voices.prompts import BrokenPromptError, Decode, broken, checked, encoded
from services.gateway.voices.voice import ChosenVoice, KeptVoice, Prompt, check_codec, not_found

log = logging.getLogger("csm.voices")


class Store(ListsVoices, Protocol):
    """The methods of the database that a lookup calls."""

    async def get(self, name: str) -> KeptVoice | None: ...
    async def codes(self, uid: str) -> bytes | None: ...


class VoiceDirectory:
    """All voices of a gateway."""

    def __init__(
        self,
        engine: DescribesVoices,
        codec: Encodes,
        folder: VoiceFolder | None,
        store: Store | None,
        metrics: GatewayMetrics,
        decode: Decode,
    ) -> None:
        """decode: decodes the recordings of prompts"""
        self._engine, self._codec, self._folder, self._store, self._metrics = engine, codec, folder, store, metrics
        self._decode = decode
        self._prompts = PromptCache()

    def close(self) -> None:
        """Stops making prompts."""
        self._prompts.close()

    async def choose(
        self, selection: tts_pb2.VoiceSelection, speaker: int | None, catalog: Catalog, caller: str, timeout_s: float
    ) -> ChosenVoice:
        """The voice of a request, with its prompt. speaker: the request's, if set

        Raises StatusError: NOT_FOUND, FAILED_PRECONDITION for a voice of another codec, UNAVAILABLE.
        """
        async with _within(timeout_s):
            return await self._choose(selection, speaker, catalog, caller)

    def exists(self, name: str, catalog: Catalog) -> bool:
        """Whether the model or the folder has a voice of that name, for any caller."""
        return any(voice.name == name for voice in catalog.model.voices) or name in self._in_folder

    def not_kept(self, name: str, caller: str, catalog: Catalog) -> ListedVoice | None:
        """The voice of that name of the model or the folder; None if there is none that the caller may use."""
        for of_the_model in catalog.model.voices:
            if of_the_model.name == name:
                return listed_model(of_the_model)
        voice = self._in_folder.get(name)
        return None if voice is None or not may_use(voice, caller) else listed_folder(voice)

    async def page(
        self, caller: str, language_code: str, catalog: Catalog, start: Place, size: int
    ) -> tuple[list[ListedVoice], Place | None]:
        """At most `size` voices that the caller may use, from `start` on, and where the next page starts.

        The model's voices in the bundle's order, then the operator's and the kept ones by name; each name once.
        """
        folder = self._in_folder
        for source, count in (("model", len(catalog.model.voices)), ("folder", len(folder))):
            self._metrics.voices.labels(source).set(count)
        return await page_of(folder, self._store, caller, language_code, catalog, start, size)

    async def _choose(
        self, selection: tts_pb2.VoiceSelection, speaker: int | None, catalog: Catalog, caller: str
    ) -> ChosenVoice:
        name, language_code = selection.name, selection.language_code
        source, chosen = "model", None
        if name and not any(voice.name == name for voice in catalog.model.voices):
            in_folder = self._in_folder.get(name)
            if in_folder is not None:  # which hides a kept voice from every caller
                source, chosen = "folder", await self._from_folder(in_folder, language_code, catalog, caller)
            elif self._store is not None:
                source, chosen = "kept", await self._from_store(self._store, name, language_code, catalog, caller)
            if chosen is not None and speaker is not None:
                chosen = replace(chosen, speaker=speaker)
        if chosen is None:
            source = "model"
            try:
                chosen = of_model(catalog, selection, speaker)
            except StatusError:
                self._metrics.voice_lookups.labels("none").inc()
                raise
            voice = next((voice for voice in catalog.model.voices if voice.name == chosen.name), None)
            if voice is not None and voice.prompt_digest:
                prompt, prompt_id = await self._from_engine(voice, catalog)
                chosen = replace(chosen, prompt=prompt, prompt_id=prompt_id)
        self._metrics.voice_lookups.labels(source).inc()
        return chosen

    @property
    def _in_folder(self) -> Mapping[str, FolderVoice]:
        return {} if self._folder is None else self._folder.current

    async def _from_folder(
        self, voice: FolderVoice, language_code: str, catalog: Catalog, caller: str
    ) -> ChosenVoice | None:
        if not may_use(voice, caller) or not fits(voice.language_codes, language_code):
            return None
        prompt = None
        if voice.digest:
            if voice.codec is not None:
                check_codec(voice.name, asdict(voice.codec), catalog)
            made = self._prompts.get(voice.digest, catalog, lambda: self._of_files(voice, catalog))
            prompt = await self._usable(voice.name, made)
        return ChosenVoice(voice.name, voice.speaker, prompt, voice.seed, _first(voice.language_codes), voice.digest)

    async def _from_store(
        self, store: Store, name: str, language_code: str, catalog: Catalog, caller: str
    ) -> ChosenVoice | None:
        voice = await store.get(name)
        if voice is None or not voice.may_be_used_by(caller) or not fits(voice.language_codes, language_code):
            return None
        prompt = None
        if voice.prompt_frames:
            check_codec(name, voice.codec, catalog)
            made = self._prompts.get(voice.uid, catalog, lambda: self._of_store(store, voice, catalog))
            prompt = await self._usable(name, made)
        return ChosenVoice(name, voice.speaker, prompt, voice.seed, _first(voice.language_codes), voice.uid)

    async def _usable(self, name: str, made: Awaitable[Prompt]) -> Prompt:
        """The prompt of the voice. Raises StatusError FAILED_PRECONDITION if it is broken."""
        try:
            return await made
        except BrokenPromptError as error:
            self._metrics.voice_lookups.labels("broken").inc()
            if error.is_new:
                log.error("the voice '%s' cannot be used: %s", name, error)
            raise broken(name, str(error)) from None

    async def _from_engine(self, voice: engine_pb2.Voice, catalog: Catalog) -> tuple[Prompt, str]:
        """The prompt and its digest. During a rollout another engine may answer than the one that listed the voice;
        then it is the prompt of the engine that answers.
        """
        digest = voice.prompt_digest
        try:
            made = self._prompts.get(digest, catalog, lambda: self._of_engine(voice, catalog))
            return await self._usable(voice.name, made), digest
        except _OtherPromptError as other:
            digest, answer = other.answer.prompt_digest, other.answer
            made = self._prompts.get(digest, catalog, lambda: self._of_answer(answer, catalog))
            return await self._usable(voice.name, made), digest

    async def _of_engine(self, voice: engine_pb2.Voice, catalog: Catalog) -> Prompt:
        """Raises _OtherPromptError."""
        answer = await self._engine.voice_prompt(voice.name, MAKING_S)
        if answer.prompt_digest not in ("", voice.prompt_digest):
            raise _OtherPromptError(answer)
        return await self._of_answer(answer, catalog)

    async def _of_answer(self, answer: engine_pb2.GetVoicePromptResponse, catalog: Catalog) -> Prompt:
        if answer.WhichOneof("audio") == "codes":
            return checked(answer.text, answer.codes, catalog)
        return await encoded(answer.text, answer.recording, catalog, self._decode, self._codec, MAKING_S)

    async def _of_files(self, voice: FolderVoice, catalog: Catalog) -> Prompt:
        if not voice.codes:
            return await encoded(voice.text, voice.recording, catalog, self._decode, self._codec, MAKING_S)
        try:
            codes = rvq_pb2.CodeFrames.FromString(voice.codes)
        except DecodeError:
            raise BrokenPromptError("its codes are no csm.rvq.v1.CodeFrames message.") from None
        return checked(voice.text, codes, catalog)

    async def _of_store(self, store: Store, voice: KeptVoice, catalog: Catalog) -> Prompt:
        codes = await store.codes(voice.uid)
        if codes is None:
            raise not_found(voice.name)
        frames = rvq_pb2.CodeFrames(
            frame_count=voice.prompt_frames, codebook_count=catalog.identity.codebook_count, codes=codes
        )
        return checked(voice.prompt_text, frames, catalog)


class _OtherPromptError(Exception):
    """The engine has another prompt of the voice than the requested one."""

    def __init__(self, answer: engine_pb2.GetVoicePromptResponse) -> None:
        super().__init__()
        self.answer = answer


def of_model(catalog: Catalog, selection: tts_pb2.VoiceSelection, speaker: int | None) -> ChosenVoice:
    """The voice among the model's, without its prompt. Raises StatusError NOT_FOUND. speaker: that the request sets"""
    voice = catalog.voice(selection.name, selection.language_code, speaker)
    number = voice.speaker_id if speaker is None else speaker
    if not selection.name and number != voice.speaker_id:
        return ChosenVoice("", number)
    seed = voice.seed if voice.HasField("seed") else None
    return ChosenVoice(voice.name, number, None, seed, _first(voice.language_codes))


def _first(language_codes: Sequence[str]) -> str:
    return language_codes[0] if language_codes else ""


@asynccontextmanager
async def _within(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise StatusError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
            "The voice was not found within the deadline.",
        ) from None
