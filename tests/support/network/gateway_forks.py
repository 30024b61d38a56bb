"""Gateways as processes, each a fork of one process that has imported what they all import: that takes most of a start.

    python -m tests.support.network.gateway_forks

A line on standard input is a request as JSON: `{"arguments": [...], "log": path}` starts a gateway, and the answer is
its process id; `{"wait": id}` and `{"poll": id}` are answered with its exit status, the latter with null while it runs.
The end of the input kills the gateways that are left: the process that asked for them has ended, or was killed.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn


class GatewayProcess:
    """A gateway that has been started. Its process is no child of this one."""

    def __init__(self, forks: _Forks, arguments: list[str], log: Path) -> None:
        self._forks = forks
        self._returncode: int | None = None
        self.pid: int = forks.ask(arguments=arguments, log=str(log))

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self._returncode is None:
            self._returncode = self._forks.ask(poll=self.pid)
        return self._returncode

    def kill(self) -> None:
        if self._returncode is None:  # its id is its own until its end is asked for
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        if self._returncode is None:
            self._returncode = self._forks.ask(wait=self.pid)


def start_gateway_process(arguments: list[str], log: Path, environment: Mapping[str, str]) -> GatewayProcess:
    """log: gets what it prints. environment: of all gateways that this process starts."""
    return GatewayProcess(_forks(tuple(sorted(environment.items()))), arguments, log)


class _Forks:
    """This module as a program, which ends with this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        atexit.register(self._end)

    def ask(self, **request: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@cache
def _forks(environment: tuple[tuple[str, str], ...]) -> _Forks:
    return _Forks(dict(environment))


def main() -> None:
    import services.gateway.stage  # noqa: F401
    from services.common.process.run import run_stage  # noqa: F401

    serve(_run)


def serve(run: Callable[[list[str], str], NoReturn]) -> None:
    """Answers the requests on standard input. run: what a child does, with a request's arguments and log"""
    children = set[int]()  # whose end was not asked for
    try:
        for line in sys.stdin:
            match json.loads(line):
                case {"arguments": arguments, "log": log}:
                    answer: int | None = (started := os.fork() or run(arguments, log))
                    children.add(started)
                case {"wait": child}:
                    answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    children.remove(child)
                case {"poll": child}:
                    ended, status = os.waitpid(child, os.WNOHANG)
                    answer = os.waitstatus_to_exitcode(status) if ended else None
                    children.discard(ended)
            print(json.dumps(answer), flush=True)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def _run(arguments: list[str], log: str) -> NoReturn:
    from services.gateway.__main__ import main as gateway

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor, opened in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(opened, descriptor)
    sys.argv = ["services.gateway", *arguments]
    try:
        gateway()
    finally:
        os._exit(1)  # a gateway ends its process itself


if __name__ == "__main__":
    main()
