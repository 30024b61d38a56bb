"""The failover policy of a stream: for which failures, how often and until when it continues at another replica.

It opens no call: `synthesis` opens calls and asks here first. A resumed stream gives the same audio, because sampling
depends on (seed, frame, codebook) alone and decoding is deterministic.
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

AFTER_MISFIT_S = 0.25  # until the next call, after a replica of another bundle
FIRST_DELAY_S, MOST_DELAY_S = 0.05, 0.5  # between two calls to a full stage, each of which asks one replica


@dataclass(frozen=True, slots=True)
class FailoverLimits:
    """How often and how long one stream may fail over."""

    most: int  # failovers of one utterance, both stages together
    wait_s: float  # from a loss until another replica resumes the stream
    full_wait_s: float = 30.0  # for room at a full stage, in streams with a listener
    most_full: int = 0  # calls in a row that full codecs refuse and that are made again at once


@dataclass(slots=True)
class _Loss:
    """The loss that ended a call. No replica has resumed the stream yet."""

    error: StageError
    until_s: float  # on the clock
    full_until_s: float  # where replicas are there, but full, and somebody listens
    is_lost: bool = False  # so far only misfits have come, and nothing was lost


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
        refused. has_listener: the caller has audio already. Where all that were asked are full, this first delays the
        stream, and fails it only after `full_wait_s`. chance: from 0 to 1
        """
        self._limits = limits
        self._report = report
        self._full_codecs = FullReplicas(limits.most_full, report_full)
        self.has_listener = has_listener  # becomes true with the first audio
        self._clock, self._chance = clock, chance
        self._count = 0
        self._losses: dict[StageName, _Loss] = {}
        self._full_until_s: dict[StageName, float] = {}  # on the clock
        self._delays_s: dict[StageName, float] = {}  # after the next refusal, of stages whose last answer was one

    def is_full(self, stage: StageName) -> bool:
        """Whether the last call to the stage found room nowhere, so that its replicas are asked one by one."""
        return stage in self._delays_s

    async def prepare(self, error: StageError, find_replica: Callable[[float], Awaitable[object]]) -> None:
        """Waits until the call that ended with `error` may be opened again.

        find_replica: waits for a replica, at most the given seconds. A replica of another bundle is no end: others may
        fit. The deadline of the stream ends these waits from outside. Raises StageError: `error` itself when it is
        neither, else the loss that no replica took over.
        """
        if error.reason == PASSED:  # the stream's, also after a loss
            raise error
        if error.reason != FULL:
            self._delays_s.pop(error.stage, None)
        # A call to an engine has moved on by itself, for the sake of its conversation.
        if error.stage == "CODEC" and error.reason == FULL and self._full_codecs.moves_on():
            return
        # One that is alone is asked again too, and its misfit is told after the whole wait: gRPC shows neither how many
        # replicas a name has nor which of them start, and in a rollout one that fits may be about to come.
        if is_misfit(error) and self._limits.most:  # it has answered: the next call goes to the next replica
            await self._pause(error, self._begun(error))
            return
        while (loss := await self._counted(error)) is not None:
            try:
                await find_replica(max(0.0, loss.until_s - self._clock()))
                return
            except StageError as missing:
                error = missing

    async def _counted(self, error: StageError) -> _Loss | None:
        """The loss that the stream is in. None: nothing was lost, and the full stage may be called again."""
        loss = self._losses.get(error.stage)
        if loss is None and self.has_listener and error.reason == FULL:
            await self._wait_for_room(error)
            return None
        if loss is None:
            if not is_loss(error):
                raise error
            loss = self._begun(error)
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
            self._count_one(error.stage, loss)
        return loss

    def _begun(self, error: StageError) -> _Loss:
        """The loss that the stage is in, which begins now if it was in none."""
        now_s = self._clock()
        loss = _Loss(error, now_s + self._limits.wait_s, now_s + self._limits.full_wait_s)
        return self._losses.setdefault(error.stage, loss)

    async def _pause(self, error: StageError, loss: _Loss) -> None:
        """Before another replica is asked, after one that cannot take the stream. Raises the loss if it is too late."""
        if is_misfit(error) and not (is_misfit(loss.error) or loss.error.why):  # the cause, if none is found
            loss.error.why = f" {error.message}"
            loss.error.message += loss.error.why
        left_s = loss.until_s - self._clock()
        if left_s <= 0:
            why = error.message if is_misfit(error) else "no replica took it up in time"
            raise self._give_up(loss, "failed", why)
        await asyncio.sleep(min(self._delay_s(error) if error.reason == FULL else AFTER_MISFIT_S, left_s))

    def answered(self, stage: StageName) -> None:
        """The stage's newest call has begun to answer."""
        self._full_until_s.pop(stage, None)
        self._delays_s.pop(stage, None)
        if stage == "CODEC":
            self._full_codecs.forget()
        if (loss := self._losses.pop(stage, None)) and loss.is_lost:
            log.info("the stream goes on at another %s", stage.lower())
            self._tell(stage, "resumed")

    async def _wait_for_room(self, error: StageError) -> None:
        """Waits before the next call to a full stage. Raises `error` when it has been full for `full_wait_s`."""
        now_s = self._clock()
        until_s = self._full_until_s.setdefault(error.stage, now_s + self._limits.full_wait_s)
        left_s = until_s - now_s
        if left_s <= 0:
            raise error
        await asyncio.sleep(min(self._delay_s(error), left_s))

    def _delay_s(self, error: StageError) -> float:
        """Before the next call to a full stage. It doubles each time, up to the stage's own retry delay, and is up to a
        half shorter by chance, for streams that were lost together.
        """
        delay_s = self._delays_s.get(error.stage, FIRST_DELAY_S)
        self._delays_s[error.stage] = min(2 * delay_s, MOST_DELAY_S)
        asked_s = MOST_DELAY_S if error.retry_delay_s is None else error.retry_delay_s
        return min(delay_s, asked_s) * (1 - self._chance() / 2)

    def _count_one(self, stage: StageName, loss: _Loss) -> None:
        if self._count >= self._limits.most:
            raise self._give_up(loss, "exhausted", f"{self._count} failovers are all that a stream gets")
        self._count += 1
        spans.event("stage lost", stage=stage.lower(), failover=self._count, repair=self._count)
        log.warning("the %s is lost; failover %d of %d", stage.lower(), self._count, self._limits.most)

    def _give_up(self, loss: _Loss, outcome: Outcome, why: str) -> StageError:
        log.warning("the stream cannot go on at another %s: %s", loss.error.stage.lower(), why)
        if loss.is_lost:
            self._tell(loss.error.stage, outcome)
        return loss.error

    def _tell(self, stage: StageName, outcome: Outcome) -> None:
        for name in ("failover", "repair"):  # the second is the former name, until the next release
            spans.event(f"{name} {outcome}", stage=stage.lower())
        self._report(stage, outcome)
