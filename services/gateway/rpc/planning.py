"""Receives the request of a synthesis, and turns it into a plan with codes in place of recordings. All synthesis RPCs
share it.

A RecordingBudget counts recordings until they are encoded. A running stream holds codes only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from services.common.rpc.calls import caller_name, is_uuid
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.rpc.status import StatusError
from services.common.telemetry import logs
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.budgets.arrivals import one
from services.gateway.budgets.recording_budget import RecordingBudget, decoded_in_thread
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.recordings import most_decoded_bytes
from services.gateway.requests.validation import Request, asked_speaker, plan_synthesis
from services.gateway.rpc.instrumented_run import counted, instrumented
from services.gateway.settings import GatewaySettings
from services.gateway.stages.backends import Encodes
from services.gateway.stages.catalog import Catalog, CatalogSource
from services.gateway.stages.errors import StageError
from services.gateway.synthesis.context_codes import put_codes
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn, SynthesisPlan
from services.gateway.synthesis.texts.sentences import BLOCK
from services.gateway.synthesis.texts.text_synthesis import in_text_terms
from services.gateway.voices.directory import VoiceDirectory


class Planner:
    """Turns requests into plans."""

    def __init__(
        self,
        settings: GatewaySettings,
        codec: Encodes,
        catalogs: CatalogSource,
        voices: VoiceDirectory,
        metrics: GatewayMetrics,
        seal: CodeSeal | None,
        budget: RecordingBudget,
    ) -> None:
        """seal: with --code-sealing=sealed"""
        self._settings, self._codec, self._catalogs, self._voices = settings, codec, catalogs, voices
        self._metrics, self._seal, self._budget = metrics, seal, budget

    async def plan(
        self,
        requests: IncomingMessages,
        deadline: Deadline,
        announced_bytes: int,
        read: Callable[[IncomingMessages], Coroutine[Any, Any, Any]] = one,
        *,
        words_follow: bool = False,
    ) -> tuple[SynthesisPlan, Catalog]:
        """requests, announced_bytes, read: see Arrivals.receive. words_follow: the request is a StreamSynthesizeText
        config.

        Raises StatusError, also RESOURCE_EXHAUSTED when memory for recordings is short, and StageError of the codec.
        """
        arrived_at_s = time.monotonic()
        with self._catalogs.forgotten_if_wrong():
            async with AsyncExitStack() as budget:
                with counted(self._metrics, lambda: "request"):
                    async with self._budget.arrivals.receive(requests, deadline, announced_bytes, read) as request:
                        plan, catalog = await self._decoded(request, deadline, budget, words_follow=words_follow)
                        del request  # frees the recordings as they were sent
                plan = replace(plan, arrived_at_s=arrived_at_s)
                turns = list(plan.turns)
                if any(each.recording is not None for each in turns):
                    plan = replace(plan, turns=())  # so that only the list refers to the samples
                    await self._encode(turns, catalog, deadline, words_follow=words_follow)
                    plan = replace(plan, turns=tuple(turns))
        return plan, catalog

    async def _decoded(
        self, request: Request, deadline: Deadline, budget: AsyncExitStack, *, words_follow: bool
    ) -> tuple[SynthesisPlan, Catalog]:
        """budget: counts the decoded samples until it is closed"""
        if is_uuid(request.request_id):
            logs.request_id.set(request.request_id)
        deadline.require(self._settings.min_first_audio_seconds)
        catalog = await self._catalogs.get(deadline.remaining_s)
        caller, speaker = caller_name.get(), asked_speaker(request)
        try:
            voice = await self._voices.choose(request.voice, speaker, catalog, caller, deadline.remaining_s)
        except StatusError as error:
            if words_follow:
                error.field_violations = tuple(
                    replace(each, field=f"config.{each.field}") for each in error.field_violations
                )
            raise
        make_plan = partial(
            plan_synthesis,
            *(request, logs.request_id.get(), catalog, self._settings, self._seal, voice),
            caller=caller,
            words_follow=words_follow,
        )
        recordings = [each.audio.recording for each in request.context.turns if each.audio.HasField("recording")]
        if recordings:
            most = most_decoded_bytes(recordings, self._settings.max_context_audio_seconds)
            taken = await budget.enter_async_context(self._budget.decoded.take(deadline, most))
            plan = await decoded_in_thread(make_plan)
            taken.shrink(sum(len(each.recording.samples) for each in plan.turns if each.recording is not None))
        elif len(request.input.text) > BLOCK:  # cutting it into sentences may take long
            plan = await decoded_in_thread(make_plan)
        else:
            plan = make_plan()
        if plan.conversation:
            logs.annotate(conversation=plan.conversation)
        if request.labels:  # plan_synthesis has limited their number and length
            logs.annotate(labels=json.dumps(dict(request.labels)))
        return plan, catalog

    async def _encode(
        self, turns: list[ContextTurn], catalog: Catalog, deadline: Deadline, *, words_follow: bool
    ) -> None:
        async with instrumented(self._metrics, deadline, lambda: "context"):
            try:
                await put_codes(turns, self._codec, catalog.identity, deadline)
            except StageError as error:
                raise (in_text_terms(error) if words_follow else error) from None
