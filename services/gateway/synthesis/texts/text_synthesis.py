"""The synthesis of a text, possibly while it is still being written: a Synthesis for each sentence.

The engine generates a sentence while earlier ones are still playing. The context of a sentence is the codes of earlier
ones, whose keys and values are mostly still in the engine's cache (remembered.py). The codec decodes the sentences one
after the other; for the watermark they are one clip. It knows no public message and no audio format.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.common.rpc.status import StatusError
from services.gateway.stages.errors import StageError, lost_after
from services.gateway.synthesis.context_fields import renamed
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn, SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.resume_state import ResumeState
from services.gateway.synthesis.segments import answer_codes, turn_indices
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.remembered import RememberedSentences
from services.gateway.synthesis.texts.spoken import SpokenSentences, other_text

SEEDS = 2**63
NOTHING_SPOKEN = SpokenSentences()

BeforeDecoding = Callable[[], Awaitable[None]]


class TextClip(Protocol):
    """The clip that the sentences form. It builds their syntheses, announces their beginnings, and ends with a
    watermark.
    """

    def synthesis_of(
        self,
        sentence: SynthesisPlan,
        before_decoding: BeforeDecoding,
        resume_from: ResumeState | None,
        *,
        is_first: bool,
    ) -> Synthesis:
        """The synthesis of one sentence. is_first: it is the first of the text. The others are as for Synthesis."""

    def begin_sentence(self, text: str) -> None:
        """Called before the samples of each sentence."""

    def deliver_of(self, synthesis: Synthesis, text: str, *, resumes_inside: bool) -> Deliver | None:
        """What delivers the samples of a sentence; None: the run's own `deliver`. Called before its first samples.

        resumes_inside: the caller has the sentence's first samples from an earlier call
        """

    async def end_sentence(self, text: str, result: SynthesisResult) -> None:
        """Called after the samples of each sentence that no earlier call has finished."""

    async def say_nothing(self, deliver: Deliver) -> SynthesisResult:
        """Called instead of the other methods for a text without words: silence, or StatusError."""

    async def close(self, deadline: Deadline) -> codec_pb2.WatermarkResult | None:
        """Ends the clip and returns its watermark; None if the codec reports one for each sentence.

        Raises StageError for a failure of the codec.
        """


class TextSynthesis:
    """One run over all sentences. It is used like Synthesis."""

    def __init__(
        self,
        plan: SynthesisPlan,
        sentences: AsyncIterator[str],
        clip: TextClip,
        remembered: RememberedSentences,
        spoken: SpokenSentences = NOTHING_SPOKEN,
        field_of: Callable[[str], str] = str,
    ) -> None:
        """plan: of all sentences; its text is not used. remembered: still empty. spoken: sentences of an earlier call.
        field_of: translates a field of StreamSynthesizeRequest into the caller's request.
        """
        self._plan = plan
        self._sentences = sentences
        self._clip = clip
        self._remembered = remembered
        self._spoken = spoken
        self._field_of = field_of
        self._number = 0  # of the next sentence
        self._newest: Synthesis | None = None
        self._running: list[Synthesis] = []  # only those, for a finished one would keep all its frames in memory
        self._num_begun = 0  # syntheses of this run
        self._delivered_samples = self._sent_samples = 0  # of finished syntheses
        self._newest_done: asyncio.Event | None = None  # set when the newest sentence, and so all others, are delivered
        self._results: list[SynthesisResult] = []
        self._utterances: list[tuple[str, rvq_pb2.CodeFrames]] = []  # text and codes of each result
        self._making_s = 0.0  # seconds of past `is_speaking` periods
        self._making_since_s = 0.0  # begin of the current one, on the monotonic clock

    @property
    def phase(self) -> str:
        """The phase of the newest sentence."""
        return "text" if self._newest is None else self._newest.phase

    @property
    def delivered_samples(self) -> int:
        """Samples delivered so far, at the codec's rate."""
        return self._delivered_samples + sum(synthesis.delivered_samples for synthesis in self._running)

    @property
    def is_speaking(self) -> bool:
        """Whether audio of a begun sentence is still to come."""
        return self._newest_done is not None and not self._newest_done.is_set()

    async def run(self, deadline: Deadline, deliver: Deliver) -> SynthesisResult:
        """Generates the audio and passes it to `deliver`.

        Raises StageError for a failure of a stage, StatusError for a text without words, and any error of the sentences
        or of `deliver`.
        """

        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._say_all(group, deadline, deliver)
                except StatusError as ending:
                    if ending.reason == "DRAINING" and self._newest_done is not None:  # finishes what has come
                        await self._newest_done.wait()
                    raise
        except ExceptionGroup as failures:
            error = failures.exceptions[0]
            raise self._as_failure(error) from error.__cause__
        if not self._results:
            return await self._clip.say_nothing(deliver)
        watermark = self._results[-1].watermark
        # The codec may refuse a partial mark at the end of the clip.
        if watermark.coverage != codec_pb2.WATERMARK_COVERAGE_FULL:
            try:
                watermark = await self._clip.close(deadline) or watermark
            except StageError as error:
                raise self._as_failure(error) from None
        return self._together(watermark)

    async def _say_all(self, group: asyncio.TaskGroup, deadline: Deadline, deliver: Deliver) -> None:
        """Begins a synthesis for each sentence, once the one before is generated; not for sentences already heard."""
        given, num_frames = self._plan.turns, 0
        async for text in self._sentences:
            result = self._spoken.result_of(self._number, text)
            partial = self._spoken.partial_of(self._number, text)
            if result is not None and self._spoken.were_heard:
                self._take(text, result)
                codes = result.codes
            else:
                if num_frames == self._plan.max_frames:  # the last sentence's own result says MAX_FRAMES
                    return
                done = asyncio.Event()
                resume_from = None if partial is None else partial.state
                if result is not None:
                    resume_from = ResumeState(result.codes, result.started, result.complete)
                resumes_inside = partial is not None and partial.resumes_inside
                synthesis = self._clip.synthesis_of(
                    self._plan_of(text, (*given, *self._remembered.turns), num_frames),
                    self._wait_for_turn(text, self._newest_done, resumes_inside),
                    resume_from,
                    is_first=not (self._number or self._spoken),
                )
                if not self.is_speaking:
                    self._making_since_s = time.monotonic()
                self._newest = synthesis
                self._running.append(synthesis)
                self._num_begun += 1
                self._newest_done = done
                group.create_task(self._say(text, synthesis, done, deadline, deliver, resumes_inside))
                codes = await asyncio.shield(synthesis.generated)  # cancelling this wait must not cancel the future
            self._number += 1
            num_frames += codes.frame_count
            self._remembered.add(ContextTurn(self._plan.speaker, text, codes=codes))
        if self._number < len(self._spoken):
            raise other_text(self._number)

    def _plan_of(self, text: str, turns: tuple[ContextTurn, ...], num_frames: int) -> SynthesisPlan:
        """num_frames: of the earlier sentences"""
        plan = self._plan
        left = min(plan.max_frames - num_frames, plan.max_utterance_frames)
        return replace(
            plan,
            text=text,
            sentences=(),
            turns=turns,
            sampling=replace(plan.sampling, seed=(plan.sampling.seed + self._number) % SEEDS),
            max_frames=left,
            first_batch_frames=min(plan.first_batch_frames, left),
            live=plan.live and num_frames >= plan.heard_frames,
            heard_frames=max(0, plan.heard_frames - num_frames),
            # Of a text in pieces, the last sentence is known too late, so all are followed.
            is_followed=self._number + 1 != len(plan.sentences),
        )

    def _wait_for_turn(self, text: str, previous_done: asyncio.Event | None, resumes_inside: bool) -> BeforeDecoding:
        async def wait() -> None:
            if previous_done is not None:
                await previous_done.wait()
            if not resumes_inside:  # otherwise the earlier call has announced it
                self._clip.begin_sentence(text)

        return wait

    async def _say(
        self,
        text: str,
        synthesis: Synthesis,
        done: asyncio.Event,
        deadline: Deadline,
        deliver: Deliver,
        resumes_inside: bool,
    ) -> None:
        """Runs the synthesis of one sentence. Its audio waits for that of the sentences before it."""
        own: Deliver | None = None

        async def take(samples: bytes) -> int:
            nonlocal own
            if own is None:  # all earlier sentences are delivered by now
                own = deliver
                if len(self._results) >= len(self._spoken.spoken):  # not finished by the earlier call
                    own = self._clip.deliver_of(synthesis, text, resumes_inside=resumes_inside) or deliver
            return await own(samples)

        result = await synthesis.run(deadline, take)
        self._running.remove(synthesis)
        self._delivered_samples += synthesis.delivered_samples
        self._sent_samples += synthesis.sent_samples
        self._take(text, result)
        if len(self._results) > len(self._spoken.spoken):
            await self._clip.end_sentence(text, result)
        done.set()
        if not self.is_speaking:
            self._making_s += time.monotonic() - self._making_since_s

    def _take(self, text: str, result: SynthesisResult) -> None:
        self._results.append(result)
        self._utterances.append((text, result.codes))

    def _as_failure(self, error: Exception) -> Exception:
        if not isinstance(error, StageError):
            return error
        sent_samples = self._sent_samples + sum(synthesis.sent_samples for synthesis in self._running)
        return lost_after(renamed(error, self._field_of), sent_samples)

    def _together(self, watermark: codec_pb2.WatermarkResult) -> SynthesisResult:
        """One result for all sentences. Theirs are in order, because each sentence waits for the one before."""
        last = self._results[-1]
        made_here = self._results[-self._num_begun :] if self._num_begun else []
        codes = answer_codes(self._utterances, last.codes.codebook_count)
        started = engine_pb2.GenerateStarted()
        started.CopyFrom(last.started)
        started.text_token_count = sum(result.started.text_token_count for result in self._results)
        # Of the caller's turns only: the oldest segments are dropped first, so the sentences of the text come last.
        started.dropped_segment_count = min(started.dropped_segment_count, len(turn_indices(self._plan.turns)))
        return SynthesisResult(
            complete=engine_pb2.GenerateComplete(finish_reason=self._finish_reason(), frame_count=codes.frame_count),
            started=started,
            watermark=watermark,
            codes=codes,
            queue_s=made_here[0].queue_s if made_here else 0.0,
            first_audio_s=next((result.first_audio_s for result in made_here if result.first_audio_s), 0.0),
            total_s=time.monotonic() - self._plan.arrived_at_s,
            making_s=self._making_s,
        )

    def _finish_reason(self) -> engine_pb2.FinishReason:
        """The reason of the first sentence that was cut; END_OF_SPEECH when none was."""
        for result in self._results:
            if result.complete.finish_reason != engine_pb2.FINISH_REASON_END_OF_SPEECH:
                return result.complete.finish_reason
        return engine_pb2.FINISH_REASON_END_OF_SPEECH


def in_text_terms(error: StageError) -> StageError:
    """The same failure with its fields translated by `field_of_text`."""
    return renamed(error, field_of_text)


def field_of_text(field: str) -> str:
    """Translates a field of StreamSynthesizeRequest into one of StreamSynthesizeTextRequest."""
    return "text" if field in ("input", "input.text") else f"config.{field}"
