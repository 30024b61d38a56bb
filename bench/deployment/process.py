"""A stage as a child process that can be started, frozen, killed, restarted and observed.

It takes free ports at every start, so callers must read `api_port` and `health_port` again.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

import grpc
import httpx
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from bench.deployment.counting import InUse, found_in
from bench.deployment.cpu import process_cpu_s

START_S = 600.0  # on a busy machine; the import of torch alone takes seconds
DRAIN_S = 600.0
POLL_S = 0.1
COUNT_S = 60.0

_LISTENS = re.compile(r"(?:api|http) port (\d+),(?: health port (\d+),)? metrics port (\d+)")


def call_options(stage: str, target: str, health_target: str) -> list[str]:
    """Options of a process that calls the stage there."""
    return [f"--{stage}-target", target, f"--{stage}-health-target", health_target]


def target_of(ports: Iterable[int]) -> str:
    """A target that names several servers of this machine."""
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


class StageProcess:
    """The process of a stage. `log` is the file with the output of all its runs."""

    def __init__(
        self,
        stage: str,
        number: int,
        options: Sequence[str],
        folder: Path,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        ports: tuple[int, int] = (0, 0),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """stage: "engine", "codec", "gateway" or "http". options: command line options, without address and ports.

        host: address to listen on. prefix: a command that executes the stage's, such as `ip netns exec NAME`. ports: of
        its API and its health service; 0 is a free one. environment: variables in addition to this process's.
        """
        self.stage, self.name = stage, f"{stage} {number}"
        self.host = host
        self.log = folder / f"{stage}-{number}.log"
        self.api_port = self.health_port = self.metrics_port = 0
        self._command = [
            *prefix, sys.executable, "-m", f"services.{stage}", *options, "--host", host, "--port", str(ports[0]),
            "--metrics-port", "0",
        ]  # fmt: skip
        self._is_http = stage == "http"  # has its probes on the API port
        if not self._is_http:
            self._command += ["--health-port", str(ports[1])]
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Starts it as `start` does, and kills it at the end."""
        try:
            await self.start()
            yield self
        finally:
            await self.kill()

    async def start(self) -> None:
        """Starts it, and returns when it listens. Raises RuntimeError with the end of its log when it does not."""
        log_bytes = self.log.stat().st_size if self.log.exists() else 0
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **own, **self._environment}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while self.is_alive:
                    if found := _LISTENS.search(self.log.read_bytes()[log_bytes:].decode(errors="replace")):
                        self.api_port, self.health_port, self.metrics_port = map(int, found.groups(default="0"))
                        return
                    await asyncio.sleep(POLL_S)
        raise RuntimeError(f"The {self.name} did not start. Its log ends with:\n{self.log.read_text()[-2000:]}")

    async def wait_ready(self) -> None:
        """Returns when it is ready. Raises TimeoutError."""
        if self._is_http:
            await self._wait_for_probe()
            return
        async with asyncio.timeout(START_S), grpc.aio.insecure_channel(f"{self.host}:{self.health_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="readiness")
            while True:
                answer = await stub.Check(request, timeout=START_S, wait_for_ready=True)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                await asyncio.sleep(POLL_S)

    async def _wait_for_probe(self) -> None:
        async with asyncio.timeout(START_S), httpx.AsyncClient() as client:
            while (await client.get(f"http://{self.host}:{self.api_port}/readyz")).status_code != 200:
                await asyncio.sleep(POLL_S)

    @property
    def call_options(self) -> list[str]:
        """Options of a process that calls this one."""
        return call_options(self.stage, f"{self.host}:{self.api_port}", f"{self.host}:{self.health_port}")

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    async def kill(self) -> None:
        """kill -9, which works for a frozen process too."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> int | None:
        """Sends SIGTERM. Returns the exit code after the drain; None when that took too long and it was killed."""
        self._send(signal.SIGTERM)
        assert self._process is not None
        try:
            async with asyncio.timeout(DRAIN_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return None

    def rss_mb(self) -> float:
        """Resident memory in MB; 0 when it does not run."""
        if self._process is None or not self.is_alive:
            return 0.0
        return round(psutil.Process(self._process.pid).memory_info().rss / 2**20, 1)

    async def in_use(self) -> InUse:
        """The memory that it has allocated; 0 when it does not run. Its prefix must be bench.deployment.counting.

        Raises TimeoutError.
        """
        before = len(self._counts())
        self._send(signal.SIGUSR1)
        async with asyncio.timeout(COUNT_S):
            while len(counts := self._counts()) == before:
                if not self.is_alive:
                    return InUse(0.0, 0)
                await asyncio.sleep(POLL_S)
        return counts[-1]

    def _counts(self) -> list[InUse]:
        return found_in(self.log.read_text(errors="replace"))

    def holds(self) -> dict[str, float]:
        """Resident memory in MB, open files and threads; 0 when it does not run."""
        if self._process is None or not self.is_alive:
            return {"rss_mb": 0.0, "files": 0, "threads": 0}
        process = psutil.Process(self._process.pid)
        return {"rss_mb": self.rss_mb(), "files": process.num_fds(), "threads": process.num_threads()}

    def cpu_s(self) -> float:
        """CPU seconds that all its threads have used; 0 when it does not run."""
        if self._process is None or not self.is_alive:
            return 0.0
        return process_cpu_s(self._process.pid)

    async def gauges(self, *names: str) -> dict[str, float]:
        """The values of the metrics with these names."""
        url = f"http://{self.host}:{self.metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=120).read().decode())
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in names
        }

    def tracebacks(self) -> int:
        """The number of tracebacks in its log."""
        return self.log.read_bytes().count(b"Traceback (most recent call last)")

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self.is_alive:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
