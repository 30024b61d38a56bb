"""Runs a program that starts processes. When it is terminated, its processes are ended too."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_program(program: Coroutine[Any, Any, Result]) -> Result:
    """Like asyncio.run, but SIGTERM cancels the program as Ctrl-C does, so that it can end what it has started.

    Raises SystemExit after SIGTERM, with the code that a shell gives for it.
    """
    is_terminated = False

    async def cancelled_by_sigterm() -> Result:
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            nonlocal is_terminated
            is_terminated = True
            loop.remove_signal_handler(signal.SIGTERM)  # a second signal ends the process at once
            task.cancel()

        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            loop.add_signal_handler(signal.SIGTERM, terminate)
        return await program

    try:
        return asyncio.run(cancelled_by_sigterm())
    except asyncio.CancelledError:
        if is_terminated:
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
