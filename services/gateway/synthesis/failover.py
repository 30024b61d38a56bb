"""The failover policy: when does a stream open its next call to a stage, after which failures, and when does it end?

* Loss: the replica is gone. The next call begins as soon as another replica is found. Each loss costs one of the `most`
  failovers; the other failures cost none.
* Fault: the replica could not compute a frame. As a loss, but the next call begins at once, at the next replica. When
  streams fail together, that may be the same one: it then costs none while another replica is known.
* Misfit: the replica is of another bundle. The next call begins after `AFTER_MISFIT_S`.
* Full: the replica's queue is full. A codec call goes to the next codec at once, `most_full` times in a row. Later ones
  begin after a growing delay.
* Any other status is the stage's answer to the request and ends the stream.

The failures from one answer of the stage to the next are an outage. The stream ends `wait_s` after its first failure,
with that failure. If the stage is full and the stream has a listener, it ends after `full_wait_s`; if the stage is only
full and there is no listener, at once.

What the next call sends again is up to its caller: Synthesis sends the codes so far, CodecStream the frames since the
last checkpoint. The audio stays the same, because sampling depends on (seed, frame, codebook) alone and decoding is
deterministic. This module opens no call.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from services.common.telemetry import spans
from services.gateway.stages.errors import FULL, StageError, StageName, is_fault, is_loss, is_misfit
from services.gateway.stages.full_replicas import FullOutcome, FullReplicas
from services.gateway.synthesis.deadline import PASSED

log = logging.getLogger("csm.gateway")

Outcome = Literal["resumed", "failed", "exhausted"]
Report = Callable[[StageName, Outcome], None]

AFTER_MISFIT_S = 0.25  # delay after a replica of another bundle has answered
NO_REPLICA = "no replica took it up in time"
MAX_FAULTS = 8  # of one replica in an utterance, of which only the first costs a failover
FIRST_DELAY_S, MOST_DELAY_S = 0.05, 0.5  # backoff between calls to a full stage, each to one replica


@dataclass(frozen=True, slots=True)
class FailoverLimits:
    """How often and how long one stream may fail over."""

    most: int  # failovers of one utterance, both stages together
    wait_s: float  # longest time from a loss until another replica resumes the stream
    full_wait_s: float = 30.0  # longest wait for room at a full stage, in streams with a listener
    most_full: int = 0  # refusals by full codecs in a row after which the call is made again without a delay


@dataclass(slots=True)
class _Outage:
    """The failed calls to a stage since its last answer."""

    error: StageError  # the first failure
    since_s: float  # by the clock
    until_s: float  # when the stream ends, by the clock
    is_lost: bool = False  # a replica is gone; false while the others were only full or of another bundle
    delay_s: float = 0.0  # the newest backoff; 0 unless the last replica was full


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
        self._faults: Counter[str] = Counter()  # of each replica, by its id
        self._outages: dict[StageName, _Outage] = {}

    def is_full(self, stage: StageName) -> bool:
        """Whether the last call to the stage found all replicas full. The next calls then try one replica each."""
        return stage in self._outages and self._outages[stage].delay_s > 0

    def answered(self, stage: StageName) -> None:
        """To be called when the stage's newest call begins to answer: its outage is over."""
        if stage == "CODEC":
            self._full_codecs.forget()
        if (outage := self._outages.pop(stage, None)) and outage.is_lost:
            log.info("the stream goes on at another %s", stage.lower())
            self._report_outcome(stage, "resumed")

    async def wait_for_next_call(self, error: StageError, find_replica: Callable[[float], Awaitable[object]]) -> None:
        """Returns when the next call may be opened after one that ended with `error`.

        find_replica: waits for a replica, at most the given seconds. The stream's deadline ends these waits from
        outside.

        Raises StageError when the stream ends: `error`, or the first failure of the outage.
        """
        if error.reason == PASSED:
            raise error
        await self._wait_after(error)
        if not is_loss(error) or is_fault(error):  # round robin leads the next call to the next replica
            return
        while True:
            try:
                await find_replica(max(0.0, self._outages[error.stage].until_s - self._clock()))
                return
            except StageError as missing:
                await self._wait_after(missing)

    async def _wait_after(self, error: StageError) -> None:
        """Waits as long as the policy says for this failure. Raises StageError when the stream ends."""
        if error.reason == FULL:
            await self._wait_for_room(error)
        elif is_misfit(error) and self._limits.most:
            await self._pass_over(error)
        elif is_loss(error):
            self._count_loss(error)
        else:
            outage = self._outages.get(error.stage)
            raise self._give_up(outage, "failed", error.message) if outage and outage.is_lost else error

    async def _wait_for_room(self, error: StageError) -> None:
        # GrpcEngine itself tries other engines, because it knows the conversation's key.
        if error.stage == "CODEC" and self._full_codecs.moves_on(error):
            return
        outage = self._outage(error)
        if self.has_listener:
            outage.until_s = max(outage.until_s, outage.since_s + self._limits.full_wait_s)
        outage.delay_s = min(2 * outage.delay_s or FIRST_DELAY_S, MOST_DELAY_S)
        asked_s = MOST_DELAY_S if error.retry_delay_s is None else error.retry_delay_s
        jitter = 1 - self._chance() / 2  # spreads streams that were lost together
        await self._pause(outage, min(outage.delay_s, asked_s) * jitter, NO_REPLICA)

    async def _pass_over(self, error: StageError) -> None:
        """Round robin leads the next call to the next replica. A single one is asked again until the time is over: gRPC
        does not show how many replicas a name has or which of them are starting, and in a rollout one that fits may
        come soon.
        """
        outage = self._outage(error)
        if not (is_misfit(outage.error) or outage.error.why):  # explains the failure if no replica fits
            outage.error.why = f" {error.message}"
            outage.error.message += outage.error.why
        await self._pause(outage, AFTER_MISFIT_S, error.message)

    def _count_loss(self, error: StageError) -> None:
        outage = self._outage(error)
        outage.is_lost = True
        if outage.until_s <= self._clock():
            raise self._give_up(outage, "failed", NO_REPLICA)
        if self._is_repeated_fault(error):
            log.warning("the same %s has failed again", error.stage.lower())
            return
        if self._count >= self._limits.most:
            raise self._give_up(outage, "exhausted", f"{self._count} failovers are all that a stream gets")
        self._count += 1
        stage = error.stage.lower()
        spans.event("stage lost", stage=stage, failover=self._count, repair=self._count)
        log.warning("the %s is lost; failover %d of %d", stage, self._count, self._limits.most)

    def _is_repeated_fault(self, error: StageError) -> bool:
        """Whether the next call may find a replica that has not failed, as this one has before."""
        if not is_fault(error) or not error.replica:  # replicas of older versions have no id
            return False
        self._faults[error.replica] += 1
        return 1 < self._faults[error.replica] <= MAX_FAULTS and not error.known_replicas <= self._faults.keys()

    def _outage(self, error: StageError) -> _Outage:
        """The stage's outage, with `error` noted. Another failure than "full" begins a new one after a full stage."""
        outage = self._outages.get(error.stage)
        is_full = error.reason == FULL
        if outage is None or (outage.error.reason == FULL and not is_full):
            now_s = self._clock()
            outage = _Outage(error, now_s, until_s=now_s if is_full else now_s + self._limits.wait_s)
            self._outages[error.stage] = outage
        if not is_full:
            outage.delay_s = 0.0
        return outage

    async def _pause(self, outage: _Outage, seconds: float, why: str) -> None:
        left_s = outage.until_s - self._clock()
        if left_s <= 0:
            raise self._give_up(outage, "failed", why)
        await asyncio.sleep(min(seconds, left_s))

    def _give_up(self, outage: _Outage, outcome: Outcome, why: str) -> StageError:
        error = outage.error
        if error.reason != FULL:  # a stage that is only full is no failover
            log.warning("the stream cannot go on at another %s: %s", error.stage.lower(), why)
        if outage.is_lost:
            self._report_outcome(error.stage, outcome)
        return error

    def _report_outcome(self, stage: StageName, outcome: Outcome) -> None:
        for name in ("failover", "repair"):  # "repair" is the former name, kept for one release
            spans.event(f"{name} {outcome}", stage=stage.lower())
        self._report(stage, outcome)
