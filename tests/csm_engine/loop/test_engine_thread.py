"""What the engine's thread reports of itself, with a scripted engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from csm_engine.loop.engine import Engine
from csm_engine.loop.engine_thread import EngineThread
from csm_engine.scheduling.sequence import Sequence


class HeldEngine:
    """An engine whose steps wait for the test. After a step all sequences pause, or all have ended."""

    def __init__(self) -> None:
        self.has_work = False
        self.seconds_to_wakeup: float | None = None  # reported after the step
        self.let_go = threading.Event()
        self._is_due = False

    def next_wakeup(self) -> float | None:
        return 0.0 if self._is_due else self.seconds_to_wakeup

    def add(self, sequence: None, on_queued: object = None) -> None:
        self.has_work = self._is_due = True

    def step(self) -> list[Any]:
        self.let_go.wait(10)
        self._is_due, self.has_work = False, self.seconds_to_wakeup is not None
        return []


@pytest.fixture
def engine() -> HeldEngine:
    return HeldEngine()


@pytest.fixture
def thread(engine: HeldEngine) -> Iterator[EngineThread]:
    thread = EngineThread(cast(Engine, engine), deliver=lambda outputs: None, fail=lambda error: None)
    thread.start()
    yield thread
    engine.let_go.set()
    thread.stop()


def ask(thread: EngineThread) -> None:
    thread.add(cast(Sequence, None)).result(60)


def test_silence_counts_from_the_start_of_the_current_work(thread: EngineThread) -> None:
    time.sleep(0.05)
    assert thread.silence() is None
    asked_at = time.monotonic()
    ask(thread)
    time.sleep(0.02)
    silence = thread.silence()
    assert silence is not None and 0 < silence < time.monotonic() - asked_at


def test_an_engine_that_waits_for_its_next_wakeup_is_not_silent(thread: EngineThread, engine: HeldEngine) -> None:
    engine.seconds_to_wakeup = 60.0
    engine.let_go.set()
    ask(thread)
    time.sleep(0.1)
    assert engine.has_work and thread.silence() is None
