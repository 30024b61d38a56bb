"""The failover policy of a stream: for which failures, how often and until when it continues at another replica.

It opens no call: synthesis.py does, and asks here before it opens one again. A resumed stream gives the same audio,
because sampling depends on (seed, frame, codebook) alone and decoding is deterministic.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import grpc

from services.common.telemetry import spans
from services.gateway.stages.errors import FULL, StageError, StageName, is_loss, is_misfit
from services.gateway.stages.full_replicas import FullOutcome, FullReplicas
from services.gateway.synthesis.deadline import PASSED

log = logging.getLogger("csm.gateway")

Outcome = Literal["resumed", "failed", "exhausted"]
Report = Callable[[StageName, Outcome], None]

AFTER_MISFIT_S = 0.25  # delay after a replica of another bundle has answered
FIRST_DELAY_S, MOST_DELAY_S = 0.05, 0.5  # backoff between calls to a full stage, each to one replica


@dataclass(frozen=True, slots=True)
class FailoverLimits:
    """How often and how long one stream may fail over."""

    most: int  # failovers of one utterance, both stages together
    wait_s: float  # longest time from a loss until another replica resumes the stream
    full_wait_s: float = 30.0  # longest wait for room at a full stage, in streams with a listener
    most_full: int = 0  # refusals by full codecs in a row after which the call is made again without a delay


@dataclass(slots=True)
class _Loss:
    """A loss that no replica has taken over yet."""

    error: StageError  # the failure that began it
    until_s: float  # when the stream fails, by the clock
    full_until_s: float  # the same if replicas are full and the stream has a listener
    is_lost: bool = False  # false while only replicas of other bundles have answered


class Failovers:
    """The failovers of one utterance. Each sentence of a text is one."""

    def __init__(
        self,
        limits: FailoverLimits,
        report: Report,
        report_full: Callable[[FullOutcome], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        has_listener: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """report: called once for each loss, with its outcome. report_full: called for each call that a full codec
        refused.
        has_listener: the caller has audio already, so full replicas delay the stream, and fail it only after
        `full_wait_s`. chance: random numbers from 0 to 1, for jitter.
        """
        self._limits = limits
        self._report = report
        self._full_codecs = FullReplicas(limits.most_full, report_full)
        self.has_listener = has_listener  # becomes true with the first audio
        self._clock, self._chance = clock, chance
        self._count = 0  # failovers so far
        self._losses: dict[StageName, _Loss] = {}
        self._full_until_s: dict[StageName, float] = {}  # by the clock
        self._delays_s: dict[StageName, float] = {}  # next backoff of stages whose last answer was "full"

    def is_full(self, stage: StageName) -> bool:
        """Whether the last call to the stage found all replicas full. The next calls then try one replica each."""
        return stage in self._delays_s

    async def prepare(self, error: StageError, find_replica: Callable[[float], Awaitable[object]]) -> None:
        """Waits until the call that ended with `error` may be opened again.

        find_replica: waits for a replica, at most the given seconds. A replica of another bundle does not end the
        search: others may fit. The stream's deadline ends these waits from outside.

        Raises StageError: `error` if it is no reason to retry, else the loss that no replica took over.
        """
        if error.reason == PASSED:
            raise error
        if error.reason != FULL:
            self._delays_s.pop(error.stage, None)
        # GrpcEngine itself tries other engines, because it knows the conversation's key.
        if error.stage == "CODEC" and error.reason == FULL and self._full_codecs.moves_on():
            return
        # A single misfit is asked again until the wait is over: gRPC does not show how many replicas a name has or
        # which of them are starting, and in a rollout one that fits may come soon.
        if is_misfit(error) and self._limits.most:  # round robin: the next call goes to the next replica
            await self._pause(error, self._open_loss(error))
            return
        while (loss := await self._count_loss(error)) is not None:
            try:
                await find_replica(max(0.0, loss.until_s - self._clock()))
                return
            except StageError as missing:
                error = missing

    async def _count_loss(self, error: StageError) -> _Loss | None:
        """The open loss, with `error` counted. None if nothing was lost and the full stage may be called again."""
        loss = self._losses.get(error.stage)
        if loss is None and self.has_listener and error.reason == FULL:
            await self._wait_for_room(error)
            return None
        if loss is None:
            if not is_loss(error):
                raise error
            loss = self._open_loss(error)
        elif error.code is not grpc.StatusCode.UNAVAILABLE and not is_misfit(error):
            raise self._give_up(loss, "failed", error.message) if loss.is_lost else error
        loss.is_lost |= is_loss(error)
        if error.reason == FULL and self.has_listener:
            loss.until_s = max(loss.until_s, loss.full_until_s)
        if error.reason == FULL or is_misfit(error):  # nothing was lost
            await self._pause(error, loss)
        elif loss.until_s <= self._clock():
            raise self._give_up(loss, "failed", "no replica took it up in time")
        else:
            self._count_failover(error.stage, loss)
        return loss

    def _open_loss(self, error: StageError) -> _Loss:
        """The stage's open loss; a new one if there is none."""
        now_s = self._clock()
        loss = _Loss(error, now_s + self._limits.wait_s, now_s + self._limits.full_wait_s)
        return self._losses.setdefault(error.stage, loss)

    async def _pause(self, error: StageError, loss: _Loss) -> None:
        """Waits before the next call, after a replica that cannot take the stream. Raises the loss if too late."""
        if is_misfit(error) and not (is_misfit(loss.error) or loss.error.why):  # explains the loss if no replica fits
            loss.error.why = f" {error.message}"
            loss.error.message += loss.error.why
        left_s = loss.until_s - self._clock()
        if left_s <= 0:
            why = error.message if is_misfit(error) else "no replica took it up in time"
            raise self._give_up(loss, "failed", why)
        await asyncio.sleep(min(self._delay_s(error) if error.reason == FULL else AFTER_MISFIT_S, left_s))

    def answered(self, stage: StageName) -> None:
        """To be called when the stage's newest call begins to answer: its loss is over."""
        self._full_until_s.pop(stage, None)
        self._delays_s.pop(stage, None)
        if stage == "CODEC":
            self._full_codecs.forget()
        if (loss := self._losses.pop(stage, None)) and loss.is_lost:
            log.info("the stream goes on at another %s", stage.lower())
            self._report_outcome(stage, "resumed")

    async def _wait_for_room(self, error: StageError) -> None:
        """Waits before the next call to a full stage. Raises `error` when it has been full for `full_wait_s`."""
        now_s = self._clock()
        until_s = self._full_until_s.setdefault(error.stage, now_s + self._limits.full_wait_s)
        left_s = until_s - now_s
        if left_s <= 0:
            raise error
        await asyncio.sleep(min(self._delay_s(error), left_s))

    def _delay_s(self, error: StageError) -> float:
        """The backoff before the next call to a full stage: doubled each time, at most the retry delay that the stage
        asks for, with up to 50 % jitter to spread streams that were lost together.
        """
        delay_s = self._delays_s.get(error.stage, FIRST_DELAY_S)
        self._delays_s[error.stage] = min(2 * delay_s, MOST_DELAY_S)
        asked_s = MOST_DELAY_S if error.retry_delay_s is None else error.retry_delay_s
        return min(delay_s, asked_s) * (1 - self._chance() / 2)

    def _count_failover(self, stage: StageName, loss: _Loss) -> None:
        if self._count >= self._limits.most:
            raise self._give_up(loss, "exhausted", f"{self._count} failovers are all that a stream gets")
        self._count += 1
        spans.event("stage lost", stage=stage.lower(), failover=self._count, repair=self._count)
        log.warning("the %s is lost; failover %d of %d", stage.lower(), self._count, self._limits.most)

    def _give_up(self, loss: _Loss, outcome: Outcome, why: str) -> StageError:
        log.warning("the stream cannot go on at another %s: %s", loss.error.stage.lower(), why)
        if loss.is_lost:
            self._report_outcome(loss.error.stage, outcome)
        return loss.error

    def _report_outcome(self, stage: StageName, outcome: Outcome) -> None:
        for name in ("failover", "repair"):  # "repair" is the former name, kept for one release
            spans.event(f"{name} {outcome}", stage=stage.lower())
        self._report(stage, outcome)
