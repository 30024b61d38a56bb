"""Runs a program that starts processes, so that whoever ends it ends them too."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_program(program: Coroutine[Any, Any, Result]) -> Result:
    """Its result, as asyncio.run gives it. SIGTERM cancels it, as Ctrl-C does: then it ends what it has started.

    Raises SystemExit with the code of a shell after SIGTERM.
    """
    told = False

    async def until_told() -> Result:
        task = asyncio.current_task()
        assert task is not None

        def tell() -> None:
            nonlocal told
            told = True
            loop.remove_signal_handler(signal.SIGTERM)  # the second one ends it at once
            task.cancel()

        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():  # no other thread gets signals
            loop.add_signal_handler(signal.SIGTERM, tell)
        return await program

    try:
        return asyncio.run(until_told())
    except asyncio.CancelledError:
        if told:
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
