"""Engines, a codec and gateways as processes on loopback. All engines have the same port, at different addresses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.deployment.process import StageProcess, call_options

GENERATE = "csm.engine.v1.EngineService/Generate"


def calls(engine: StageProcess) -> Iterator[dict[str, Any]]:
    """The log entries of the engine's sequences that have ended with OK so far."""
    for line in engine.log.read_text().splitlines():
        if GENERATE in line:
            fields = json.loads(line)
            if fields.get("code") == "OK":
                yield fields


class Fleet:
    """Starts processes, and kills them when its context ends."""

    def __init__(self, folder: Path, bundle: Path, base_port: int) -> None:
        """base_port: the first of six ports, which are used at every address."""
        self._folder, self._bundle = folder, bundle
        self._engine_ports, self._codec_ports = (base_port, base_port + 1), (base_port + 2, base_port + 3)
        self._gateway_ports = (base_port + 4, base_port + 5)
        self.engines: dict[int, StageProcess] = {}  # by number
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start_engine(self, number: int, address: str, options: Sequence[str]) -> StageProcess:
        """Starts an engine, and returns it when it is ready."""
        options = ["--bundle", str(self._bundle), "--threads", "1", *options]
        self.engines[number] = await self._start("engine", number, options, address, self._engine_ports)
        await self.engines[number].wait_ready()
        return self.engines[number]

    async def start_codec(self, keyring: Path) -> None:
        options = ["--bundle", str(self._bundle), "--threads", "1", "--watermark-keyring", str(keyring)]
        codec = await self._start("codec", 1, [*options, "--slots", "16"], "127.0.0.1", self._codec_ports)
        await codec.wait_ready()

    async def start_gateways(self, addresses: Sequence[str], target_at: Callable[[int], str]) -> list[str]:
        """Starts gateways. Returns their targets when they are ready. target_at: the engines' target for a port."""
        engine, engine_health = map(target_at, self._engine_ports)
        codec, codec_health = (f"127.0.0.1:{port}" for port in self._codec_ports)
        stages = [*call_options("engine", engine, engine_health), *call_options("codec", codec, codec_health)]
        started = [
            await self._start("gateway", number, ["--code-sealing", "open", *stages], address, self._gateway_ports)
            for number, address in enumerate(addresses)
        ]
        for gateway in started:
            await gateway.wait_ready()
        return [f"{gateway.host}:{gateway.api_port}" for gateway in started]

    def engine_of(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """For each request id, (the engine that completed it, its log entry)."""
        return {call["request_id"]: (engine.name, call) for engine in self.engines.values() for call in calls(engine)}

    async def _start(
        self, stage: str, number: int, options: Sequence[str], address: str, ports: tuple[int, int]
    ) -> StageProcess:
        process = StageProcess(
            stage, number, [*options, "--log-format", "json"], self._folder, host=address, ports=ports
        )
        return await self._stack.enter_async_context(process.running())
