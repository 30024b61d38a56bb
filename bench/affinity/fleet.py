"""Engines, a codec and gateways as processes on loopback: an engine has an address of its own, all have one port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_TIMEOUT_S = 240.0
GENERATE = "csm.engine.v1.EngineService/Generate"


@dataclass
class Process:
    """One stage."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    health_target: str

    async def wait_ready(self) -> None:
        """Raises RuntimeError with the end of the log when the process ends or is not ready in time."""
        request = health_pb2.HealthCheckRequest(service="readiness")
        async with grpc.aio.insecure_channel(self.health_target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for _ in range(round(START_TIMEOUT_S / 0.5)):
                if self.popen.poll() is not None:
                    break
                try:
                    if (await stub.Check(request, timeout=2)).status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.5)
        raise RuntimeError(f"{self.name} did not start. Its log ends with:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Without a drain."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def calls(self) -> Iterator[dict[str, Any]]:
        """The log lines of the sequences that have ended with OK so far."""
        for line in self.log.read_text().splitlines():
            if GENERATE in line:
                fields = json.loads(line)
                if fields.get("code") == "OK":
                    yield fields


class Fleet:
    """Starts processes; leaving it kills them."""

    def __init__(self, folder: Path, bundle: Path, base_port: int) -> None:
        """base_port: the first of six ports, which are taken at every address"""
        self._folder, self._bundle = folder, bundle
        self._engine_port, self._engine_health = base_port, base_port + 1
        self._codec_port, self._codec_health = base_port + 2, base_port + 3
        self._gateway_port, self._gateway_health = base_port + 4, base_port + 5
        self.engines: dict[str, Process] = {}  # by name
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start_engine(self, name: str, address: str, options: Sequence[str]) -> Process:
        """Returns when it is ready."""
        process = self._start(
            name,
            "engine",
            f"{address}:{self._engine_health}",
            ["--bundle", str(self._bundle), "--threads", "1", "--host", address, "--port", str(self._engine_port)]
            + ["--health-port", str(self._engine_health), *options],
        )
        await process.wait_ready()
        self.engines[name] = process
        return process

    async def start_codec(self, keyring: Path) -> None:
        codec = self._start(
            "codec",
            "codec",
            f"127.0.0.1:{self._codec_health}",
            ["--bundle", str(self._bundle), "--threads", "1", "--host", "127.0.0.1", "--port", str(self._codec_port)]
            + ["--health-port", str(self._codec_health), "--watermark-keyring", str(keyring)]
            + ["--slots", "16"],
        )
        await codec.wait_ready()

    async def start_gateways(self, addresses: Sequence[str], target_at: Callable[[int], str]) -> list[str]:
        """The targets of the gateways, once they are ready. target_at: the engines' target, of a port"""
        started = []
        for index, address in enumerate(addresses):
            options = ["--host", address, "--port", str(self._gateway_port), "--code-sealing", "open"]
            options += ["--health-port", str(self._gateway_health)]
            options += ["--engine-target", target_at(self._engine_port)]
            options += ["--engine-health-target", target_at(self._engine_health)]
            options += ["--codec-target", f"127.0.0.1:{self._codec_port}"]
            options += ["--codec-health-target", f"127.0.0.1:{self._codec_health}"]
            started.append(self._start(f"gateway-{index}", "gateway", f"{address}:{self._gateway_health}", options))
        for gateway in started:
            await gateway.wait_ready()
        return [f"{address}:{self._gateway_port}" for address in addresses]

    def engine_of(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """By request id: the engine that completed the sequence, and its log line."""
        return {call["request_id"]: (name, call) for name, process in self.engines.items() for call in process.calls()}

    def _start(self, name: str, stage: str, health_target: str, options: Sequence[str]) -> Process:
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", f"services.{stage}", *options, "--metrics-port", "-1", "--log-format", "json"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "GRPC_VERBOSITY": "NONE"}
        with log.open("wb") as stderr:
            popen = subprocess.Popen(command, env=environment, stdout=stderr, stderr=stderr, start_new_session=True)
        process = Process(name, popen, log, health_target)
        self._stack.callback(process.kill)
        return process
