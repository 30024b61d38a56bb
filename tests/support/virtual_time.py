"""An event loop whose clock jumps to the next timer when nothing is ready, so that hours pass in no time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Only for code that waits for timers and its own tasks, not for sockets or threads."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        super().__init__()

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        nexts_s = [timer.when() for timer in timers if not timer.cancelled()]
        if nexts_s and not self._ready:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, min(nexts_s)) + 1e-6  # late as real timers are: rounding could leave a rest
        super()._run_once()  # type: ignore[misc]


def run_in_virtual_time(main: Coroutine[Any, Any, T], monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> T:
    """Runs the coroutine. modules: those that call `time.monotonic`, which then is the loop's clock there."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        clock = SimpleNamespace(**{**vars(time), "monotonic": runner.get_loop().time})
        for module in modules:
            monkeypatch.setattr(module, "time", clock)
        return runner.run(main)
