"""The policy of failovers: which failures start one, how many a stream gets, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import grpc
import pytest

from services.gateway.stages.errors import StageError, StageName, is_loss, lost_after, unreachable
from services.gateway.stages.full_replicas import FullOutcome
from services.gateway.synthesis.failover import MAX_FAULTS, FailoverLimits, Failovers, Outcome

Code = grpc.StatusCode


@dataclass
class Bench:
    """The failovers of a stream with a stopped clock, and fakes of everything that they call."""

    limits: FailoverLimits = field(default_factory=lambda: FailoverLimits(most=3, wait_s=5.0))
    now_s: float = 100.0
    outcomes: list[tuple[StageName, Outcome]] = field(default_factory=list)
    full: list[FullOutcome] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    chance: float = 0.0
    nobody: StageError | None = None  # the error when no replica is found

    def __post_init__(self) -> None:
        self.failovers = Failovers(
            self.limits,
            lambda stage, what: self.outcomes.append((stage, what)),
            self.full.append,
            lambda: self.now_s,
            chance=lambda: self.chance,
        )

    async def find(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        if self.nobody is not None:
            raise self.nobody

    async def retry_after(self, error: StageError) -> None:
        await self.failovers.wait_for_next_call(error, self.find)

    async def refused(self, error: StageError) -> StageError:
        with pytest.raises(StageError) as raised:
            await self.retry_after(error)
        return raised.value


def answer(code: grpc.StatusCode, reason: str, stage: StageName = "ENGINE") -> StageError:
    return StageError(stage, code, reason, "a message")


NO_LOSS = [
    answer(Code.INVALID_ARGUMENT, "INVALID_REQUEST"),
    answer(Code.FAILED_PRECONDITION, "CODEC_MISMATCH"),
    answer(Code.INTERNAL, "WATERMARK_FAILED", "CODEC"),
    answer(Code.INTERNAL, "INTERNAL"),
    answer(Code.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
    answer(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    answer(Code.UNAVAILABLE, "QUEUE_FULL"),
]


@pytest.mark.parametrize("error", NO_LOSS, ids=lambda error: error.reason)
async def test_a_refusal_of_the_request_is_no_loss(error: StageError) -> None:
    bench = Bench()
    assert await bench.refused(error) is error
    assert bench.waits == [] and bench.outcomes == []


async def test_a_full_stage_is_retried_with_doubling_delays_within_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(FailoverLimits(most=3, wait_s=5.0, full_wait_s=4.0))
    bench.failovers.has_listener = True
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        bench.now_s += seconds

    monkeypatch.setattr("services.gateway.synthesis.failover.asyncio", SimpleNamespace(sleep=sleep))
    full = answer(Code.UNAVAILABLE, "QUEUE_FULL")
    while sum(waits) < 4.0:
        await bench.retry_after(full)
    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25])
    assert await bench.refused(full) is full


FULL_CODEC = answer(Code.UNAVAILABLE, "QUEUE_FULL", "CODEC")


async def test_full_codecs_are_skipped_a_limited_number_of_times_in_a_row() -> None:
    bench = Bench(FailoverLimits(most=3, wait_s=5.0, most_full=2))
    for _ in range(2):
        for _ in range(2):
            await bench.retry_after(FULL_CODEC)
        bench.failovers.answered("ENGINE")
        assert await bench.refused(FULL_CODEC) is FULL_CODEC
        bench.failovers.answered("CODEC")
    assert bench.full == ["moved", "moved", "refused"] * 2
    assert bench.waits == [] and bench.outcomes == [], "nothing was lost"


async def test_a_full_engine_counts_as_already_skipped() -> None:
    bench = Bench(FailoverLimits(most=3, wait_s=5.0, most_full=2))
    full = answer(Code.UNAVAILABLE, "QUEUE_FULL")
    assert await bench.refused(full) is full
    assert bench.full == []


async def test_a_lost_stream_skips_full_codecs_before_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(FailoverLimits(most=3, wait_s=5.0, most_full=2))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("services.gateway.synthesis.failover.asyncio", SimpleNamespace(sleep=sleep))
    await bench.retry_after(unreachable("CODEC"))
    for _ in range(2):
        await bench.retry_after(FULL_CODEC)
    assert waits == []
    await bench.retry_after(FULL_CODEC)
    assert waits == [0.05]
    bench.failovers.answered("CODEC")
    assert bench.outcomes == [("CODEC", "resumed")]


@pytest.mark.parametrize("reason", ["ENGINE_UNREACHABLE", "DRAINING"])
def test_an_unreachable_or_draining_replica_is_a_loss(reason: str) -> None:
    assert is_loss(answer(Code.UNAVAILABLE, reason))


async def test_a_failover_counts_once_it_is_answered() -> None:
    bench = Bench()
    await bench.retry_after(unreachable("ENGINE"))
    assert bench.waits == [5.0] and bench.outcomes == []
    bench.failovers.answered("ENGINE")
    bench.failovers.answered("ENGINE")
    assert bench.outcomes == [("ENGINE", "resumed")]


async def test_first_answer_of_a_whole_stream_is_no_failover() -> None:
    bench = Bench()
    bench.failovers.answered("ENGINE")
    bench.failovers.answered("CODEC")
    assert bench.outcomes == []


async def test_both_stages_share_the_failover_of_a_stream() -> None:
    bench = Bench(FailoverLimits(most=2, wait_s=5.0))
    for stage in ("ENGINE", "CODEC"):
        await bench.retry_after(unreachable(stage))
        bench.failovers.answered(stage)
    third = unreachable("ENGINE")
    assert await bench.refused(third) is third
    assert bench.outcomes[-1] == ("ENGINE", "exhausted")


async def test_a_limit_of_zero_allows_no_failover() -> None:
    bench = Bench(FailoverLimits(most=0, wait_s=5.0))
    error = unreachable("CODEC")
    assert await bench.refused(error) is error
    assert bench.waits == []


async def test_a_deadline_after_a_loss_is_reported_as_a_deadline() -> None:
    """It is chance whether the call to the stage or the stream ends first."""
    bench = Bench()
    await bench.retry_after(unreachable("ENGINE"))
    passed = answer(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert await bench.refused(passed) is passed
    assert bench.outcomes == []


async def test_attempts_after_one_loss_share_its_wait() -> None:
    bench = Bench()
    loss = unreachable("ENGINE")
    await bench.retry_after(loss)
    bench.now_s += 3
    await bench.retry_after(unreachable("ENGINE"))
    assert bench.waits == [5.0, 2.0]
    bench.now_s += 2
    assert await bench.refused(unreachable("ENGINE")) is loss
    assert bench.outcomes == [("ENGINE", "failed")]


async def test_a_loss_after_an_answer_has_a_wait_of_its_own() -> None:
    bench = Bench()
    await bench.retry_after(unreachable("ENGINE"))
    bench.failovers.answered("ENGINE")
    bench.now_s += 60
    await bench.retry_after(unreachable("ENGINE"))
    assert bench.waits == [5.0, 5.0]


async def test_a_failover_without_a_replica_in_time_reports_the_loss() -> None:
    bench = Bench(nobody=answer(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"))
    loss = unreachable("ENGINE")
    assert await bench.refused(loss) is loss
    assert bench.outcomes == [("ENGINE", "failed")]


async def test_a_replica_lost_during_a_failover_costs_another_attempt() -> None:
    bench = Bench(nobody=unreachable("ENGINE"))
    loss = unreachable("ENGINE")
    assert await bench.refused(loss) is loss
    assert bench.waits == [5.0, 5.0, 5.0]
    assert bench.outcomes == [("ENGINE", "exhausted")]


MISFIT = answer(Code.FAILED_PRECONDITION, "CODEC_MISMATCH", "CODEC")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.synthesis.failover.AFTER_MISFIT_S", 0.001)


async def test_replicas_of_another_bundle_are_passed_over_until_the_wait_is_over(no_pause: None) -> None:
    bench = Bench(FailoverLimits(most=1, wait_s=5.0))
    loss = unreachable("CODEC")
    await bench.retry_after(loss)
    for _ in range(5):
        bench.now_s += 0.9
        await bench.retry_after(MISFIT)
    assert bench.waits == [5.0]  # no wait for a replica: one has answered, and the next call goes to the next one
    bench.now_s += 0.9
    assert await bench.refused(MISFIT) is loss
    assert loss.message.endswith("a message") and lost_after(loss, 10).message.endswith("a message")
    assert bench.outcomes == [("CODEC", "failed")]


async def test_a_failover_skips_a_replica_of_another_bundle(no_pause: None) -> None:
    bench = Bench()
    await bench.retry_after(unreachable("CODEC"))
    await bench.retry_after(MISFIT)
    bench.failovers.answered("CODEC")
    assert bench.outcomes == [("CODEC", "resumed")]


async def test_a_new_stream_skips_replicas_of_another_bundle(no_pause: None) -> None:
    """After its decode slot was released, or its next sentence went to another codec."""
    bench = Bench()
    await bench.retry_after(MISFIT)
    bench.now_s += 5
    assert await bench.refused(MISFIT) is MISFIT
    assert not bench.outcomes


async def test_the_refusal_of_a_matching_replica_is_reported_before_a_bundle_mismatch(no_pause: None) -> None:
    bench, refusal = Bench(), answer(Code.INVALID_ARGUMENT, "INVALID_REQUEST", "CODEC")
    await bench.retry_after(MISFIT)
    assert await bench.refused(refusal) is refusal
    assert not bench.outcomes


async def test_another_bundle_alone_is_no_loss(no_pause: None) -> None:
    bench = Bench(FailoverLimits(most=1, wait_s=5.0))
    for _ in range(3):
        await bench.retry_after(MISFIT)
    bench.failovers.answered("CODEC")
    assert not bench.outcomes
    await bench.retry_after(MISFIT)
    await bench.retry_after(unreachable("CODEC"))  # the only allowed failover
    bench.failovers.answered("CODEC")
    assert bench.outcomes == [("CODEC", "resumed")]


async def test_with_failovers_off_another_bundle_ends_the_stream() -> None:
    assert await Bench(FailoverLimits(most=0, wait_s=5.0)).refused(MISFIT) is MISFIT


async def test_full_replicas_cost_no_failover_and_are_asked_until_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for delay in ("FIRST_DELAY_S", "MOST_DELAY_S"):
        monkeypatch.setattr(f"services.gateway.synthesis.failover.{delay}", 0.001)
    bench = Bench(FailoverLimits(most=1, wait_s=5.0))
    loss = unreachable("ENGINE")
    await bench.retry_after(loss)
    for _ in range(5):
        bench.now_s += 0.9
        await bench.retry_after(answer(Code.UNAVAILABLE, "QUEUE_FULL"))
    bench.now_s += 0.9
    assert await bench.refused(answer(Code.UNAVAILABLE, "QUEUE_FULL")) is loss
    assert bench.outcomes == [("ENGINE", "failed")]


async def test_a_failover_continues_when_a_full_replica_gets_room() -> None:
    bench = Bench()
    await bench.retry_after(unreachable("ENGINE"))
    await bench.retry_after(answer(Code.UNAVAILABLE, "QUEUE_FULL"))
    bench.failovers.answered("ENGINE")
    assert bench.outcomes == [("ENGINE", "resumed")]
    assert bench.waits == [5.0], "a replica is looked for after the loss only: the full one has answered"


@pytest.mark.parametrize(("known", "num_free"), [("ab", MAX_FAULTS - 1), ("a", 0), ("", 0)])
async def test_a_replica_that_fails_again_costs_nothing_while_there_is_another(known: str, num_free: int) -> None:
    """Streams of a batch fail together, and round robin leads half of them to the same one of two engines again."""
    bench, num_calls = Bench(), 0
    fault = answer(Code.UNAVAILABLE, "ENGINE_FAULT")
    fault.replica, fault.known_replicas = known[:1], frozenset(known)
    with pytest.raises(StageError):
        while num_calls < 100:
            await bench.retry_after(fault)
            num_calls += 1
    assert num_calls == 3 + num_free and bench.outcomes == [("ENGINE", "exhausted")]


async def test_a_loss_after_a_full_stage_has_a_wait_of_its_own(no_pause: None) -> None:
    bench = Bench(FailoverLimits(most=3, wait_s=5.0, full_wait_s=30.0), nobody=unreachable("ENGINE"))
    bench.failovers.has_listener = True
    await bench.retry_after(answer(Code.UNAVAILABLE, "QUEUE_FULL"))
    loss = unreachable("ENGINE")
    assert await bench.refused(loss) is loss
    assert bench.waits[0] == 5.0
