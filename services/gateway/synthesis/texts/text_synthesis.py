"""Speech of a text, possibly while it is still being written: one synthesis for each sentence, each continuing from the
last.

It knows no public message and no audio format. The engine generates a sentence while earlier ones are still playing.
Its context is the codes of earlier sentences, whose keys and values are mostly still in the engine's cache
(remembered.py). The codec decodes the sentences one after the other. For the watermark they are one clip.
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
from services.gateway.synthesis.made import Made
from services.gateway.synthesis.plan import ContextTurn, SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.segments import answer_codes, turn_indices
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.remembered import RememberedSentences
from services.gateway.synthesis.texts.said import EarlierSentences, other_text

SEEDS = 2**63
NOTHING_SAID = EarlierSentences()

BeforeDecoding = Callable[[], Awaitable[None]]


class TextClip(Protocol):
    """The clip that the sentences make up: it makes them, knows who hears them, and ends with a watermark."""

    def synthesis_of(
        self, sentence: SynthesisPlan, before_decoding: BeforeDecoding, made: Made | None, *, is_first: bool
    ) -> Synthesis:
        """The synthesis of one sentence. made: what it came to if another gateway has made it. is_first: of the text"""

    def begin_sentence(self, text: str) -> None:
        """Called before the samples of each sentence."""

    def deliver_of(self, synthesis: Synthesis, text: str, *, is_inside: bool) -> Deliver | None:
        """What takes the samples of a sentence that ends here; None: `deliver` of the run. Called before the first of
        them. is_inside: the stream goes on inside of the sentence
        """

    async def end_sentence(self, text: str, result: SynthesisResult) -> None:
        """Called after the samples of each sentence that was made here."""

    async def say_nothing(self, deliver: Deliver) -> SynthesisResult:
        """Called in place of all others for a text without words. Raises StatusError unless that is to be a silence."""

    async def close(self, deadline: Deadline) -> codec_pb2.WatermarkResult | None:
        """The watermark of the whole clip, after the last sentence; None where the codec tells of each by itself.

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
        earlier: EarlierSentences = NOTHING_SAID,
        field_of: Callable[[str], str] = str,
    ) -> None:
        """plan: shared by all sentences, whatever its text. remembered: nothing yet. field_of: names a field of
        StreamSynthesizeRequest as the caller knows it
        """
        self._plan = plan
        self._sentences = sentences
        self._clip = clip
        self._remembered = remembered
        self._earlier = earlier
        self._field_of = field_of
        self._number = 0  # of the next sentence
        self._newest: Synthesis | None = None
        self._speaking: list[Synthesis] = []  # begun and not said: what has been said is let go, with all that it kept
        self._num_spoken = self._delivered_samples = self._sent_samples = 0  # the samples of what has been said
        self._said: asyncio.Event | None = None  # of the newest sentence, which is said after all others
        self._results: list[SynthesisResult] = []
        self._utterances: list[tuple[str, rvq_pb2.CodeFrames]] = []  # text and codes of each result
        self._making_s, self._making_since_s = 0.0, 0.0  # the second: on the monotonic clock, while `is_speaking`
        self._is_cut = False

    @property
    def phase(self) -> str:
        """The phase of the newest sentence."""
        return "text" if self._newest is None else self._newest.phase

    @property
    def delivered_samples(self) -> int:
        """Samples delivered so far, at the codec's rate."""
        return self._delivered_samples + sum(synthesis.delivered_samples for synthesis in self._speaking)

    @property
    def is_speaking(self) -> bool:
        """Whether audio of a sentence is still to come."""
        return self._said is not None and not self._said.is_set()

    async def run(self, deadline: Deadline, deliver: Deliver) -> SynthesisResult:
        """Makes the audio and hands it to `deliver`.

        Raises StageError for a failure of a stage, StatusError for a text without words, and any error of the sentences
        or of `deliver`.
        """

        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._say_all(group, deadline, deliver)
                except StatusError as ending:
                    if ending.reason == "DRAINING" and self._said is not None:  # what has come is said
                        await self._said.wait()
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
        given, num_frames = self._plan.turns, 0
        async for text in self._sentences:
            result, begun = self._earlier.result_of(self._number, text), self._earlier.begun_of(self._number, text)
            if result is not None and self._earlier.are_heard:
                self._take(text, result)
                codes = result.codes
            else:
                if num_frames == self._plan.max_frames:
                    self._is_cut = True
                    return
                said = asyncio.Event()
                made = None if begun is None else begun.made
                if result is not None:
                    made = Made(result.codes, result.started, result.complete)
                is_inside = begun is not None and begun.is_inside
                synthesis = self._clip.synthesis_of(
                    self._plan_of(text, (*given, *self._remembered.turns), num_frames),
                    self._turn_to_speak(text, self._said, is_inside),
                    made,
                    is_first=not (self._number or self._earlier),
                )
                if not self.is_speaking:
                    self._making_since_s = time.monotonic()
                self._newest = synthesis
                self._speaking.append(synthesis)
                self._num_spoken += 1
                self._said = said
                group.create_task(self._say(text, synthesis, said, deadline, deliver, is_inside))
                codes = await asyncio.shield(synthesis.generated)  # a cancel of this wait must not cancel the future
            self._number += 1
            num_frames += codes.frame_count
            self._remembered.add(ContextTurn(self._plan.speaker, text, codes=codes))
        if self._number < len(self._earlier):
            raise other_text(self._number)

    def _plan_of(self, text: str, turns: tuple[ContextTurn, ...], num_frames: int) -> SynthesisPlan:
        """num_frames: frames of the earlier sentences"""
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
            is_followed=self._number + 1 != len(plan.sentences),  # a text in pieces tells only of its end, and too late
        )

    def _turn_to_speak(self, text: str, before: asyncio.Event | None, is_inside: bool) -> BeforeDecoding:
        async def wait() -> None:
            if before is not None:
                await before.wait()
            if not is_inside:  # else its beginning was told by the other gateway
                self._clip.begin_sentence(text)

        return wait

    async def _say(
        self,
        text: str,
        synthesis: Synthesis,
        said: asyncio.Event,
        deadline: Deadline,
        deliver: Deliver,
        is_inside: bool,
    ) -> None:
        own: Deliver | None = None

        async def take(samples: bytes) -> int:
            nonlocal own
            if own is None:  # the sentences before have been said
                is_new = len(self._results) >= len(self._earlier.said)
                own = (self._clip.deliver_of(synthesis, text, is_inside=is_inside) if is_new else None) or deliver
            return await own(samples)

        result = await synthesis.run(deadline, take)
        self._speaking.remove(synthesis)
        self._delivered_samples += synthesis.delivered_samples
        self._sent_samples += synthesis.sent_samples
        self._take(text, result)
        if len(self._results) > len(self._earlier.said):
            await self._clip.end_sentence(text, result)
        said.set()
        if not self.is_speaking:
            self._making_s += time.monotonic() - self._making_since_s

    def _take(self, text: str, result: SynthesisResult) -> None:
        self._results.append(result)
        self._utterances.append((text, result.codes))

    def _as_failure(self, error: Exception) -> Exception:
        if not isinstance(error, StageError):
            return error
        sent_samples = self._sent_samples + sum(synthesis.sent_samples for synthesis in self._speaking)
        return lost_after(renamed(error, self._field_of), sent_samples)

    def _together(self, watermark: codec_pb2.WatermarkResult) -> SynthesisResult:
        """One result for all sentences. The results are in order, because each sentence waits for the one before."""
        last = self._results[-1]
        made_here = self._results[-self._num_spoken :] if self._num_spoken else []
        codes = answer_codes(self._utterances, last.codes.codebook_count)
        started = engine_pb2.GenerateStarted()
        started.CopyFrom(last.started)
        started.text_token_count = sum(result.started.text_token_count for result in self._results)
        # Oldest first, so the caller's turns before the sentences of the text.
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
        return engine_pb2.FINISH_REASON_MAX_FRAMES if self._is_cut else engine_pb2.FINISH_REASON_END_OF_SPEECH


def in_text_terms(error: StageError) -> StageError:
    """The same failure, with fields of StreamSynthesizeRequest as those of StreamSynthesizeText."""
    return renamed(error, field_of_text)


def field_of_text(field: str) -> str:
    """A field of StreamSynthesizeRequest as StreamSynthesizeText has it."""
    return "text" if field in ("input", "input.text") else f"config.{field}"
