"""The list of the voices that a caller may use. A page reads no more than it needs. It knows no request.

For a caller that may not use a voice, it does not exist.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from csm.engine.v1 import engine_pb2

from csm_bundle.voice_folder import FolderVoice
from services.gateway.stages.catalog import Catalog, speaks
from services.gateway.voices.place import Place
from services.gateway.voices.voice import Audience, KeptVoice


class ListsVoices(Protocol):
    """The method of the database that a list calls."""

    def usable_by(self, caller: str, after: str = "") -> AsyncGenerator[KeptVoice, None]: ...


@dataclass(frozen=True, slots=True)
class ListedVoice:
    """A voice as ListVoices shows it."""

    name: str
    speaker: int
    language_codes: tuple[str, ...]
    description: str
    seed: int | None
    has_prompt: bool
    owner: str = ""  # of a kept voice
    audience: Audience = Audience.EVERYONE


async def page_of(
    folder: Mapping[str, FolderVoice],
    store: ListsVoices | None,
    caller: str,
    language_code: str,
    catalog: Catalog,
    start: Place,
    size: int,
) -> tuple[list[ListedVoice], Place | None]:
    """See VoiceDirectory.page."""
    model = [] if start.after else catalog.voices(language_code)[start.index :]
    page = [listed_model(voice) for voice in model[:size]]
    if len(model) > size:
        return page, Place(start.index + size)
    taken = {voice.name for voice in catalog.model.voices}
    async with aclosing(_others(folder, store, caller, start.after)) as others:
        async for voice in others:
            if voice.name in taken or not fits(voice.language_codes, language_code):
                continue
            if len(page) == size:
                return page, Place(start.index + size) if len(model) == size else Place(after=page[-1].name)
            page.append(voice)
    return page, None


async def _others(
    folder: Mapping[str, FolderVoice], store: ListsVoices | None, caller: str, after: str
) -> AsyncGenerator[ListedVoice, None]:
    """The operator's voices and the kept ones by name; only those after the name `after`."""
    names = sorted(folder)
    ours = (folder[name] for name in names[bisect_right(names, after) :] if may_use(folder[name], caller))
    our_next = next(ours, None)
    if store is not None:
        async with aclosing(store.usable_by(caller, after)) as kept:
            async for voice in kept:
                while our_next is not None and our_next.name < voice.name:
                    yield listed_folder(our_next)
                    our_next = next(ours, None)
                if voice.name not in folder:
                    yield listed_kept(voice)
    while our_next is not None:
        yield listed_folder(our_next)
        our_next = next(ours, None)


def listed_model(voice: engine_pb2.Voice) -> ListedVoice:
    seed = voice.seed if voice.HasField("seed") else None
    languages = tuple(voice.language_codes)
    return ListedVoice(voice.name, voice.speaker_id, languages, voice.description, seed, bool(voice.prompt_digest))


def listed_folder(voice: FolderVoice) -> ListedVoice:
    audience = Audience.EVERYONE if voice.callers is None else Audience.CALLERS
    return _listed(voice, bool(voice.digest), "", audience)


def listed_kept(voice: KeptVoice) -> ListedVoice:
    return _listed(voice, voice.prompt_frames > 0, voice.owner, voice.audience)


def _listed(voice: FolderVoice | KeptVoice, has_prompt: bool, owner: str, audience: Audience) -> ListedVoice:
    languages = voice.language_codes
    return ListedVoice(voice.name, voice.speaker, languages, voice.description, voice.seed, has_prompt, owner, audience)


def may_use(voice: FolderVoice, caller: str) -> bool:
    return voice.callers is None or caller in voice.callers


def fits(language_codes: tuple[str, ...], language_code: str) -> bool:
    """A voice that names no language may speak any."""
    return not language_codes or speaks(language_codes, language_code)
