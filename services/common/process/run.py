"""Runs a stage as a program: start, serve until a signal or a fatal failure, drain, exit code. It knows no stage.

SIGTERM and SIGINT drain and exit with 0. While the stage is still loading they end the process within seconds, also
with 0. A second signal ends it at once, with 143 for SIGTERM and 130 for SIGINT. A failure to start and a stage that
reports `server.fail` exit with 1.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

from csm_bundle.errors import CsmError
from services.common.process.garbage import freeze_present_objects
from services.common.process.stop import SIGNALS, end_at_once, end_at_signals

log = logging.getLogger("csm.run")

_CANCEL_SECONDS = 5.0  # for a cancelled start to clean up
MOST_FILES = 2**20  # file descriptors; every connection is one


class Server(Protocol):
    """What listens in a stage."""

    async def wait_failed(self) -> BaseException:
        """Returns when the stage cannot go on, with the reason."""


class Stage(Protocol):
    """A started stage."""

    @property
    def server(self) -> Server: ...

    async def stop(self) -> None:
        """Drains the server and frees what the stage holds."""


def run_stage(start: Callable[[], Awaitable[Stage]]) -> NoReturn:
    """Runs the stage that `start` makes until it ends, and then ends the process with its exit code.

    The interpreter is not taken down: a thread that was left behind in native code would crash on it. Nor is the event
    loop: its end would wait for every task and thread that was left behind, such as one that hangs in a file system.
    """
    raise_file_limit()

    async def start_all() -> Stage:
        stage = await start()
        freeze_present_objects()
        return stage

    async def run() -> NoReturn:
        try:
            code = await serve_until_stopped(start_all)
        except BaseException:
            log.exception("cannot stop in order")
            code = 1
        end_at_once(code)

    asyncio.run(run())
    raise AssertionError("unreachable")


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard limit: the usual default is 1024, on macOS 256.

    macOS reports an infinite hard limit but refuses values above the kernel's, so smaller and smaller ones are tried.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    refused: Exception | None = None
    while soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return
        except (OSError, ValueError) as error:
            refused, most = error, most // 2
    if refused is not None:
        log.warning("at most %d files may be open: %s", soft, refused)


async def serve_until_stopped(
    start: Callable[[], Awaitable[Stage]], abandon: Callable[[int], object] = end_at_once
) -> int:
    """Starts a stage and serves until SIGTERM, SIGINT or a fatal failure; returns the exit code.

    abandon: ends the process with an exit code when it is stopped while it starts. A thread that loads weights cannot
    be cancelled, and the end of the event loop would wait for it.
    """
    stop = _stop_signal()
    starting: asyncio.Future[Stage] = asyncio.ensure_future(start())
    waiting: set[asyncio.Future[Any]] = {starting, stop}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        log.info("stopped while starting")
        starting.cancel()
        await asyncio.wait({starting}, timeout=_CANCEL_SECONDS)
        abandon(0)
        return 0
    try:
        stage = starting.result()
    except (CsmError, OSError) as error:
        log.error("cannot start: %s", error)
        return 1
    except Exception:
        log.exception("cannot start")
        return 1
    failed = asyncio.ensure_future(stage.server.wait_failed())
    waiting = {failed, stop}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    failure = failed.result() if failed.done() else None
    failed.cancel()
    if failure is not None:
        log.error("stopping after a fatal failure", exc_info=failure)
    else:
        log.info("draining")
    await stage.stop()
    log.info("stopped")
    return 0 if failure is None else 1


def _stop_signal() -> asyncio.Future[None]:
    """Done at the first SIGTERM or SIGINT; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        end_at_signals(None)  # not a KeyboardInterrupt, which would free what threads still use
        if not stop.done():
            stop.set_result(None)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    return stop
