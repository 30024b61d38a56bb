"""How long a stream with a listener waits for room at full stages, whatever else they answer. Time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from services.gateway.stages.errors import FULL, StageError, StageName, other_model, unreachable
from services.gateway.synthesis.failover import FailoverLimits, Failovers
from tests.support.virtual_time import run_in_virtual_time

WAIT_S, FULL_WAIT_S = 5.0, 30.0


def full(stage: StageName = "ENGINE", retry_delay_s: float | None = 1.0) -> StageError:
    error = StageError(stage, grpc.StatusCode.UNAVAILABLE, FULL, "The queue is full.")
    error.retry_delay_s = retry_delay_s
    return error


async def found(wait_s: float) -> None:
    """Stages that have a replica at once."""


def heard(limits: FailoverLimits) -> Failovers:
    clock = asyncio.get_running_loop().time
    return Failovers(limits, lambda *loss: None, lambda outcome: None, clock, has_listener=True, chance=lambda: 0.0)


async def seconds_of(failovers: Failovers, error: StageError) -> list[float]:
    """The seconds before each retry of a stage with these answers, until the stream fails."""
    clock, waits = asyncio.get_running_loop().time, list[float]()
    while True:
        began_s = clock()
        try:
            await failovers.wait_for_next_call(error, found)
        except StageError as ended:
            assert ended is error
            return waits
        waits.append(clock() - began_s)


def test_the_stage_may_ask_for_a_shorter_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        waits = await seconds_of(heard(FailoverLimits(3, WAIT_S, 0.2)), full(retry_delay_s=0.06))
        assert waits == pytest.approx([0.05, 0.06, 0.06, 0.03], abs=1e-3)

    run_in_virtual_time(main(), monkeypatch)


def test_each_answer_ends_the_wait_and_the_next_one_is_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        failovers = heard(FailoverLimits(3, WAIT_S, 1.0))
        for _ in range(3):
            for _ in range(4):
                await failovers.wait_for_next_call(full(), found)
            failovers.answered("ENGINE")
            assert await seconds_of(failovers, full()) == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.25], abs=1e-3)
            failovers.answered("ENGINE")

    run_in_virtual_time(main(), monkeypatch)


def test_after_a_loss_full_replicas_are_waited_for_as_long_as_absent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        failovers, clock = heard(FailoverLimits(3, WAIT_S, 0.0)), asyncio.get_running_loop().time
        began_s, loss = clock(), unreachable("ENGINE")
        await failovers.wait_for_next_call(loss, found)
        with pytest.raises(StageError) as ended:
            while True:
                await failovers.wait_for_next_call(full(), found)
        assert ended.value is loss and clock() - began_s == pytest.approx(WAIT_S, abs=0.01)

    run_in_virtual_time(main(), monkeypatch)


@pytest.mark.parametrize("first", [full, unreachable])
def test_a_wait_is_up_to_a_half_shorter_by_chance(
    first: Callable[[StageName], StageError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams that were lost at the same time do not retry at the same time."""

    async def main() -> None:
        clock, chances = asyncio.get_running_loop().time, iter([0.0, 0.5, 1.0, 0.0, 1.0])
        limits = FailoverLimits(3, WAIT_S, FULL_WAIT_S)
        failovers = Failovers(
            limits, lambda *loss: None, lambda outcome: None, clock, has_listener=True, chance=lambda: next(chances)
        )
        waits = []
        if first is unreachable:
            await failovers.wait_for_next_call(first("ENGINE"), found)
        for _ in range(5):
            began_s = clock()
            await failovers.wait_for_next_call(full(), found)
            waits.append(clock() - began_s)
        assert waits == pytest.approx([0.05, 0.075, 0.1, 0.4, 0.25], abs=1e-3)

    run_in_virtual_time(main(), monkeypatch)


def test_a_stage_is_full_until_it_answers_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        failovers = heard(FailoverLimits(3, WAIT_S, FULL_WAIT_S))
        assert not failovers.is_full("ENGINE")
        await failovers.wait_for_next_call(full(), found)
        assert failovers.is_full("ENGINE") and not failovers.is_full("CODEC")
        failovers.answered("ENGINE")
        assert not failovers.is_full("ENGINE")
        for _ in range(2):
            await failovers.wait_for_next_call(full(), found)
            assert failovers.is_full("ENGINE")
            await failovers.wait_for_next_call(unreachable("ENGINE"), found)
            assert not failovers.is_full("ENGINE")

    run_in_virtual_time(main(), monkeypatch)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_stages_answer_every_wait_ends(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    limits = FailoverLimits(rng.choice([0, 1, 3]), WAIT_S, rng.choice([0.0, FULL_WAIT_S]), rng.choice([0, 1, 7]))
    stage: StageName = rng.choice(["ENGINE", "CODEC"])
    answers = rng.choices([unreachable, full, other_model], weights=[rng.random() for _ in range(3)], k=10_000)

    async def find(wait_s: float) -> None:
        await asyncio.sleep(min(wait_s, rng.random()))
        if rng.random() < 0.5:
            raise rng.choice([unreachable, other_model])(stage)

    async def main() -> Any:
        failovers, clock = heard(limits), asyncio.get_running_loop().time
        failovers.has_listener = rng.random() < 0.7
        began_s = clock()
        with pytest.raises(StageError):
            for answer in answers:
                await failovers.wait_for_next_call(answer(stage), find)
        assert clock() - began_s < 2 * FULL_WAIT_S + 0.01, "one for room, one after a loss"

    run_in_virtual_time(main(), monkeypatch)
