"""The servicer of csm.v1.VoiceService: creates, describes and deletes voices of callers."""

from __future__ import annotations

import re
import sys
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
from csm.rvq.v1 import rvq_pb2
from csm.v1 import voices_pb2, voices_pb2_grpc

from csm_bundle.sampling import LIMITS
from csm_bundle.voice_folder import VOICE_NAME
from services.common.rpc.calls import Context, caller_name
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.rpc.status import StatusError
from services.common.telemetry import logs
from services.common.values import seconds
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.auth.quotas import StreamQuotas
from services.gateway.auth.tokens import is_name
from services.gateway.budgets.admission_queue import AdmissionQueue
from services.gateway.budgets.arrivals import announced_bytes
from services.gateway.budgets.recording_budget import RecordingBudget
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.violations import Violations
from services.gateway.rpc import responses
from services.gateway.rpc.voice_prompts import PromptCodec, VoicePrompts
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog, CatalogSource
from services.gateway.synthesis.deadline import Deadline
from services.gateway.voices.directory import VoiceDirectory
from services.gateway.voices.listing import ListedVoice, listed_kept
from services.gateway.voices.voice import (
    Audience,
    KeptVoice,
    already_exists,
    identity_values,
    not_found,
    not_kept,
    too_many,
)

if TYPE_CHECKING:
    from services.gateway.voices.store import VoiceStore  # its libraries take 30 MiB, also where no voices are kept

READ_LATE = ("CreateVoice",)  # see add_to_server
AT_ONCE, MAX_WAITING = 2, 16  # voices being created, and waiting calls
LONGEST = {"description": 1000, "consent.id": 200, "consent.text": 4000, "prompt.text": sys.maxsize}  # characters
LONGEST_NAME = 64  # characters of a valid name; longer ones are cut in the log and in errors
MAX_CALLERS, MAX_LANGUAGES = 100, 16
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{1,35}")

_AUDIENCES = {
    voices_pb2.VOICE_AUDIENCE_UNSPECIFIED: Audience.OWNER,
    voices_pb2.VOICE_AUDIENCE_OWNER: Audience.OWNER,
    voices_pb2.VOICE_AUDIENCE_CALLERS: Audience.CALLERS,
    voices_pb2.VOICE_AUDIENCE_EVERYONE: Audience.EVERYONE,
}
_AUDIENCE_VALUES = {audience: value for value, audience in _AUDIENCES.items()}


class VoiceServicer(voices_pb2_grpc.VoiceServiceServicer):
    """The servicer. Voices are stored only in the database."""

    def __init__(
        self,
        settings: GatewaySettings,
        codec: PromptCodec,
        catalogs: CatalogSource,
        voices: VoiceDirectory,
        store: VoiceStore | None,
        metrics: GatewayMetrics,
        quotas: StreamQuotas,
        seal: CodeSeal | None,
        budget: RecordingBudget,
    ) -> None:
        """store: None turns the service off; seal: with --code-sealing=sealed"""
        self._settings, self._catalogs, self._voices, self._budget = settings, catalogs, voices, budget
        self._store_or_none, self._metrics, self._quotas = store, metrics, quotas
        self._prompts = VoicePrompts(settings, codec, catalogs, seal, budget)
        self._creating = AdmissionQueue(AT_ONCE, MAX_WAITING, "VOICES_BUSY", "voices are being made")

    async def stop(self) -> None:
        """Closes the database, and stops making prompts."""
        self._voices.close()
        if self._store_or_none is not None:
            await self._store_or_none.close()

    async def count(self) -> None:
        """Updates the metric of stored voices. If the database cannot be reached, that is only logged."""
        if self._store_or_none is not None:
            with suppress(StatusError):
                self._metrics.voices.labels("kept").set(await self._store_or_none.count())

    async def CreateVoice(self, requests: IncomingMessages, context: Context) -> voices_pb2.CreateVoiceResponse:
        """requests: an iterator over the one request, which is received when it is read"""
        store, owner = self._store, caller_name.get()
        deadline = Deadline.of(context, self._settings)
        async with self._quotas.one_more(owner):
            async with self._budget.arrivals.receive(requests, deadline, announced_bytes(context)) as request:
                logs.annotate(voice=request.name[:LONGEST_NAME])
                voice, catalog = await self._create(request, store, owner, deadline)
        return voices_pb2.CreateVoiceResponse(voice=_described(voice, catalog, owner))

    async def _create(
        self, request: voices_pb2.CreateVoiceRequest, store: VoiceStore, owner: str, deadline: Deadline
    ) -> tuple[KeptVoice, Catalog]:
        catalog = await self._catalogs.get(deadline.remaining_s)
        _check(request, self._settings)
        if self._voices.exists(request.name, catalog) or await store.get(request.name) is not None:
            raise already_exists(request.name)
        if await store.count(owner) >= self._settings.max_voices_per_caller:
            raise too_many(owner, self._settings.max_voices_per_caller)
        codes, level_db = rvq_pb2.CodeFrames(), None
        if request.HasField("prompt"):
            async with self._creating.take(deadline):
                codes, level_db = await self._prompts.make(request, catalog, deadline)
        voice = KeptVoice(
            name=request.name,
            uid=uuid.uuid4().hex,
            owner=owner,
            audience=_AUDIENCES[request.audience],
            callers=tuple(dict.fromkeys(request.callers)),
            speaker=request.speaker,
            language_codes=tuple(request.language_codes),
            description=request.description,
            seed=request.seed if request.HasField("seed") else None,
            consent_id=request.consent.id,
            consent_text=request.consent.text,
            prompt_text=request.prompt.text,
            prompt_frames=codes.frame_count,
            prompt_level_db=level_db,
            codec=identity_values(catalog.identity) if request.HasField("prompt") else {},
            model_version=catalog.model.model_version,
            created_at=int(time.time()),
        )
        await store.add(voice, codes.codes, self._settings.max_voices_per_caller)
        await self.count()
        return voice, catalog

    async def GetVoice(self, request: voices_pb2.GetVoiceRequest, context: Context) -> voices_pb2.GetVoiceResponse:
        caller = caller_name.get()
        deadline = Deadline.of(context, self._settings)
        catalog = await self._catalogs.get(deadline.remaining_s)
        if self._voices.exists(request.name, catalog):
            listed = self._voices.not_kept(request.name, caller, catalog)
            if listed is not None:
                return voices_pb2.GetVoiceResponse(voice=_seen_by_all(listed, catalog))
        elif self._store_or_none is not None:
            voice = await self._store_or_none.get(request.name)
            if voice is not None and voice.may_be_used_by(caller):
                return voices_pb2.GetVoiceResponse(voice=_described(voice, catalog, caller))
        raise not_found(request.name)

    async def DeleteVoice(
        self, request: voices_pb2.DeleteVoiceRequest, context: Context
    ) -> voices_pb2.DeleteVoiceResponse:
        store, caller = self._store, caller_name.get()
        logs.annotate(voice=request.name[:LONGEST_NAME])
        if not await store.delete(request.name, caller):
            voice = await store.get(request.name)
            # One of the caller's own was made after the deletion had found none.
            if voice is None or voice.owner == caller or not voice.may_be_used_by(caller):
                raise not_kept(request.name)
            raise StatusError(
                grpc.StatusCode.PERMISSION_DENIED,
                "VOICE_OF_ANOTHER",
                f"The voice '{request.name}' belongs to another caller; only its owner may delete it.",
            )
        await self.count()
        return voices_pb2.DeleteVoiceResponse()

    @property
    def _store(self) -> VoiceStore:
        """Raises StatusError FAILED_PRECONDITION."""
        if self._store_or_none is None:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION, "VOICES_OFF", "This server keeps no voices of callers."
            )
        return self._store_or_none


def _check(request: voices_pb2.CreateVoiceRequest, settings: GatewaySettings) -> None:
    """Raises StatusError INVALID_ARGUMENT with everything that is wrong with a request but its audio."""
    violations = Violations()
    wrong = violations.wrong
    if VOICE_NAME.fullmatch(request.name) is None:
        allowed = f"1 to {LONGEST_NAME} letters, digits or . _ -, a letter or digit first"
        wrong("name", f"is {_shown(request.name)}; it must be {allowed}.", "VOICE_NAME_INVALID")
    if not 0 <= request.speaker <= settings.max_speaker:
        wrong("speaker", f"is {request.speaker}; it must be 0 to {settings.max_speaker}.")
    for field, values, most, is_valid, what in (
        (
            "language_codes",
            request.language_codes,
            MAX_LANGUAGES,
            _LANGUAGE.fullmatch,
            "BCP-47 tags, such as en-GB",
        ),
        ("callers", request.callers, MAX_CALLERS, is_name, "names of tokens"),
    ):
        if len(values) > most:
            wrong(field, f"has {len(values)} entries; at most {most} are allowed.")
        elif unfit := [value for value in values if not is_valid(value)]:
            wrong(field, f"has {_shown(unfit[0])}; all entries must be {what}.")
    texts = (request.description, request.consent.id, request.consent.text, request.prompt.text)
    for (field, most), text in zip(LONGEST.items(), texts, strict=True):
        if len(text) > most:
            wrong(field, f"has {len(text)} characters; at most {most} are allowed.")
        if "\0" in text:
            wrong(field, "has the character U+0000, which is not allowed.")
    if request.HasField("seed") and not LIMITS["seed"].allow(request.seed):
        wrong("seed", f"is {request.seed}; it must be {LIMITS['seed']}.")
    if request.HasField("prompt"):
        for part in ("id", "text"):
            if not getattr(request.consent, part).strip():
                wrong(f"consent.{part}", "is empty; a voice with a prompt needs the speaker's consent.", "NO_CONSENT")
        if not request.prompt.text.strip():
            wrong("prompt.text", "is empty; it must be what is said in the audio.", "TEXT_EMPTY")
        if request.prompt.audio.WhichOneof("source") is None:
            wrong("prompt.audio", "is empty; it must hold a recording or codes.")
    elif not request.HasField("seed"):
        wrong("prompt", "is missing; a voice needs a prompt, a seed, or both.", "VOICE_EMPTY")
    if request.audience not in _AUDIENCES:
        wrong("audience", f"is {request.audience}; it must be 0 to {max(_AUDIENCES)}.")
    elif (_AUDIENCES[request.audience] is Audience.CALLERS) != bool(request.callers):
        wrong("callers", "must be set with VOICE_AUDIENCE_CALLERS, and only with it.")
    violations.raise_if_any()


def _shown(value: str) -> str:
    """In quotes; a value that is longer than every valid name is cut."""
    return f"'{value}'" if len(value) <= LONGEST_NAME else f"'{value[:LONGEST_NAME]}...' ({len(value)} characters)"


def _described(voice: KeptVoice, catalog: Catalog, caller: str) -> voices_pb2.KeptVoice:
    """The fields of a stored voice that `caller` may see."""
    described = _seen_by_all(listed_kept(voice), catalog)
    described.create_time.seconds = voice.created_at
    described.model_version = voice.model_version
    if voice.prompt_frames:
        frame_s = int(voice.codec["frame_sample_count"]) / int(voice.codec["sample_rate_hertz"])
        described.prompt_duration.CopyFrom(seconds(voice.prompt_frames * frame_s))
    if caller == voice.owner:
        described.callers.extend(voice.callers)
        if voice.consent_id or voice.consent_text:
            described.consent.id, described.consent.text = voice.consent_id, voice.consent_text
        described.prompt_text = voice.prompt_text
        if voice.prompt_level_db is not None:
            described.prompt_level_db = voice.prompt_level_db
    return described


def _seen_by_all(voice: ListedVoice, catalog: Catalog) -> voices_pb2.KeptVoice:
    """The fields that every caller who may use the voice can see."""
    return voices_pb2.KeptVoice(
        voice=responses.listed_voice(voice, catalog), owner=voice.owner, audience=_AUDIENCE_VALUES[voice.audience]
    )
