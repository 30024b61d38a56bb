"""Speech of a text, possibly while it is still being written: one synthesis for each sentence, each continuing from the
last.

It knows no public message and no audio format. The engine generates a sentence while earlier ones are still playing.
Its context is the codes of the last sentences, whose keys and values may still be in the engine's cache. The codec
decodes the sentences one after the other. For the watermark they are one clip.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.common.rpc.status import StatusError, wrong_field
from services.gateway.stages.errors import StageError, lost_after
from services.gateway.synthesis.context_fields import renamed
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import FrameBuffer
from services.gateway.synthesis.made import Made
from services.gateway.synthesis.plan import ContextTurn, SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.said import BegunSentence, Said
from services.gateway.synthesis.texts.silence import Silence
from services.gateway.synthesis.texts.words import NO_WORDS

SEEDS = 2**63

BeforeDecoding = Callable[[], Awaitable[None]]
EndSentence = Callable[[str, SynthesisResult], Awaitable[None]]
CloseClip = Callable[[Deadline], Awaitable[codec_pb2.WatermarkResult | None]]
DeliverOf = Callable[[Synthesis, str, bool], Deliver | None]
SynthesisOf = Callable[[SynthesisPlan, BeforeDecoding, bool, Made | None], Synthesis]


class TextSynthesis:
    """One run over all sentences. It is used like Synthesis."""

    def __init__(
        self,
        plan: SynthesisPlan,
        sentences: AsyncIterator[str],
        synthesis_of: SynthesisOf,
        begin_sentence: Callable[[str], None],
        end_sentence: EndSentence,
        close_clip: CloseClip,
        max_remembered: int,
        earlier: Sequence[Said] = (),
        *,
        decodes_earlier: bool = False,
        begun: BegunSentence | None = None,
        deliver_of: DeliverOf = lambda synthesis, text, is_inside: None,
        field_of: Callable[[str], str] = str,
        silence: Silence | None = None,
    ) -> None:
        """plan: shared by all sentences, whatever its text. synthesis_of: makes the synthesis of one sentence; the last
        arguments say whether earlier sentences exist, and what it came to if another gateway has made it.
        begin_sentence: called before the samples of each sentence. end_sentence: after those of each sentence that was
        made here. close_clip: asks the codec for the watermark result of the whole clip, after the last sentence.
        max_remembered: most earlier sentences in the context of one. earlier: sentences that another gateway has said,
        the first ones of the text; decodes_earlier: their audio is wanted again. begun: the next one, if that gateway
        has begun it. deliver_of: called before the first samples of a sentence that ends here; what it returns takes
        them, or `deliver` of the run where that is None. Its last argument says whether the stream goes on inside of
        the sentence. field_of: names a field of StreamSynthesizeRequest as the caller knows it. silence: is delivered
        where no sentence has words; None is an error then
        """
        self._plan = plan
        self._sentences = sentences
        self._synthesis_of = synthesis_of
        self._begin_sentence, self._end_sentence = begin_sentence, end_sentence
        self._close_clip = close_clip
        self._earlier, self._decodes_earlier = earlier, decodes_earlier
        self._begun, self._deliver_of, self._field_of, self._silence = begun, deliver_of, field_of, silence
        self._number = 0  # of the next sentence
        self._remembered: deque[ContextTurn] = deque(maxlen=max_remembered)
        self._newest: Synthesis | None = None
        self._speaking: list[Synthesis] = []  # begun and not said: what has been said is let go, with all that it kept
        self._num_spoken = self._delivered_samples = self._sent_samples = 0  # the samples of what has been said
        self._said: list[asyncio.Event] = []  # of each sentence
        self._results: list[SynthesisResult] = []
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
        return not all(said.is_set() for said in self._said)

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
                    if ending.reason == "DRAINING":  # no more text comes; what has come is said
                        for said in self._said:
                            await said.wait()
                    raise
        except ExceptionGroup as failures:
            error = failures.exceptions[0]
            raise self._as_failure(error) from error.__cause__
        if not self._results:
            if self._silence is None:
                raise wrong_field("text", NO_WORDS, "TEXT_EMPTY")  # one that came whole has words
            return await self._silence.deliver(deliver, self._plan.arrived_at_s)
        watermark = self._results[-1].watermark
        # The codec may refuse a partial mark at the end of the clip.
        if watermark.coverage != codec_pb2.WATERMARK_COVERAGE_FULL:
            try:
                watermark = await self._close_clip(deadline) or watermark
            except StageError as error:
                raise self._as_failure(error) from None
        return self._together(watermark)

    async def _say_all(self, group: asyncio.TaskGroup, deadline: Deadline, deliver: Deliver) -> None:
        given, num_frames = self._plan.turns, 0
        before: asyncio.Event | None = None
        async for text in self._sentences:
            result, begun = self._said_before(text), self._begun_before(text)
            if result is not None and not self._decodes_earlier:
                self._results.append(result)
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
                synthesis = self._synthesis_of(
                    self._plan_of(text, (*given, *self._remembered), num_frames),
                    self._turn_to_speak(text, before, is_inside),
                    bool(self._number or self._earlier or begun),
                    made,
                )
                if not self.is_speaking:
                    self._making_since_s = time.monotonic()
                self._newest = synthesis
                self._speaking.append(synthesis)
                self._num_spoken += 1
                self._said.append(said)
                group.create_task(self._say(text, synthesis, said, deadline, deliver, is_inside))
                codes = await asyncio.shield(synthesis.generated)  # a cancel of this wait must not cancel the future
                before = said
            self._number += 1
            num_frames += codes.frame_count
            if codes.frame_count:
                self._remembered.append(ContextTurn(self._plan.speaker, text, codes=codes))
        if self._number < len(self._earlier) + (self._begun is not None):
            raise _other_text(self._number)

    def _begun_before(self, text: str) -> BegunSentence | None:
        """What another gateway has made of the next sentence. Raises StatusError if that was another sentence."""
        if self._begun is None or self._number != len(self._earlier):
            return None
        if self._begun.text != text:
            raise _other_text(self._number)
        return self._begun

    def _said_before(self, text: str) -> SynthesisResult | None:
        """What the next sentence came to at another gateway. Raises StatusError if that was another sentence."""
        if self._number >= len(self._earlier):
            return None
        said = self._earlier[self._number]
        if said.text != text:
            raise _other_text(self._number)
        return said.result

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
                self._begin_sentence(text)

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
                is_new = len(self._results) >= len(self._earlier)
                own = (self._deliver_of(synthesis, text, is_inside) if is_new else None) or deliver
            return await own(samples)

        result = await synthesis.run(deadline, take)
        self._speaking.remove(synthesis)
        self._delivered_samples += synthesis.delivered_samples
        self._sent_samples += synthesis.sent_samples
        self._results.append(result)
        if len(self._results) > len(self._earlier):
            await self._end_sentence(text, result)
        said.set()
        if not self.is_speaking:
            self._making_s += time.monotonic() - self._making_since_s

    def _as_failure(self, error: Exception) -> Exception:
        if not isinstance(error, StageError):
            return error
        sent_samples = self._sent_samples + sum(synthesis.sent_samples for synthesis in self._speaking)
        return lost_after(renamed(error, self._field_of), sent_samples)

    def _together(self, watermark: codec_pb2.WatermarkResult) -> SynthesisResult:
        """One result for all sentences. The results are in order, because each sentence waits for the one before."""
        last = self._results[-1]
        made_here = self._results[-self._num_spoken :] if self._num_spoken else []
        buffer = FrameBuffer()
        for result in self._results:
            buffer.put(result.codes)
        started = engine_pb2.GenerateStarted()
        started.CopyFrom(last.started)
        started.text_token_count = sum(result.started.text_token_count for result in self._results)
        # Oldest first, so the caller's turns before the sentences of the text.
        started.dropped_segment_count = min(started.dropped_segment_count, len(self._plan.turns))
        return SynthesisResult(
            complete=engine_pb2.GenerateComplete(finish_reason=self._finish_reason(), frame_count=buffer.frame_count),
            started=started,
            watermark=watermark,
            codes=buffer.joined(last.codes.codebook_count),
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


def _other_text(index: int) -> StatusError:
    why = f"does not begin with the sentences of the checkpoints: sentence {index} is another one or is missing."
    return wrong_field("text", why, "CHECKPOINT_OTHER_TEXT")


def in_text_terms(error: StageError) -> StageError:
    """The same failure, with fields of StreamSynthesizeRequest as those of StreamSynthesizeText."""
    return renamed(error, field_of_text)


def field_of_text(field: str) -> str:
    """A field of StreamSynthesizeRequest as StreamSynthesizeText has it."""
    return "text" if field in ("input", "input.text") else f"config.{field}"
