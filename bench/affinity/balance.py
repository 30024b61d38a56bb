"""Calls without a conversation to uneven engines, by gRPC's round robin and by its weighted round robin.

    python -m bench.affinity.balance --out bench/results/balance_simulated.json

Three simulated engines with real gRPC: a call sleeps for as long as its speech would take. In one engine conversations
hold four of the eight slots; one is half as fast as the others. The same arrivals run with each policy. Load reports
come at the end of each call, or (out_of_band) every second in their own stream. Prints a line for each policy; the last
line is one JSON object.

  refused        share of all calls that found their engine full
  peak           most calls at once at each engine, its conversations included
  calls          calls at each engine
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import grpc
from csm.engine.v1 import engine_pb2

from bench.command import parser_of
from bench.listeners.workload import arrivals
from bench.machine import result_head
from bench.report import write_result
from services.common.rpc.channels.opening import ROUND_ROBIN, open_channel
from services.gateway.stages.balancing import BY_LOAD

SLOTS = 8
OUT_OF_BAND = {"enableOobLoadReport": True, "oobReportingPeriod": "1s"}
POLICIES = {
    "round_robin": ROUND_ROBIN,
    "weighted_round_robin": BY_LOAD,
    "weighted_round_robin, out_of_band": {"weighted_round_robin": BY_LOAD["weighted_round_robin"] | OUT_OF_BAND},
}


class SimulatedEngine:
    """held: slots that conversations hold. speed: 1 is the speed of playback."""

    def __init__(self, held: int = 0, speed: float = 1.0) -> None:
        self.running = self.peak = held
        self.speed = speed
        self.calls = self.refused = 0

    async def speak(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """request: the seconds of speech, as text."""
        if self.running >= SLOTS:
            self.refused += 1
            context.set_trailing_metadata((("endpoint-load-metrics-bin", self._report()),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        self.running += 1
        self.calls += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(float(request) / self.speed)
        finally:
            self.running -= 1
        context.set_trailing_metadata((("endpoint-load-metrics-bin", self._report()),))
        return b""

    async def report_for_ever(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while True:
            await context.write(self._report())
            await asyncio.sleep(1)

    def _report(self) -> bytes:
        """A load report like the engine's servicer's."""
        report = engine_pb2.LoadReport(rps_fractional=1, application_utilization=(self.running + 1) / SLOTS)
        return report.SerializeToString()


async def run(policy: str, seed: int, rate: float, duration_s: float) -> dict[str, Any]:
    engines = [SimulatedEngine(held=4), SimulatedEngine(), SimulatedEngine(speed=0.5)]
    servers, ports = [], []
    for engine in engines:
        server = grpc.aio.server()
        speak = {"Speak": grpc.unary_unary_rpc_method_handler(engine.speak)}
        report = {"StreamCoreMetrics": grpc.unary_stream_rpc_method_handler(engine.report_for_ever)}
        for name, handlers in (("bench.Engine", speak), ("xds.service.orca.v3.OpenRcaService", report)):
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        servers.append(server)
        await server.start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    random = Random(seed)
    planned = [(at_s, random.uniform(2, 14)) for at_s in arrivals(rate, duration_s, random)]
    async with open_channel(target, policy=POLICIES[policy]) as channel:
        ask = channel.unary_unary("/bench.Engine/Speak", None, None)

        async def call(at_s: float, speech_s: float) -> None:
            await asyncio.sleep(at_s)
            try:
                await ask(str(speech_s).encode(), timeout=120)
            except grpc.aio.AioRpcError as error:
                if error.details() != "full":
                    raise

        await asyncio.gather(*(call(*each) for each in planned))
    for server in servers:
        await server.stop(0)
    return {
        "policy": policy,
        "seed": seed,
        "sent": len(planned),
        "refused": sum(engine.refused for engine in engines),
        "calls": [engine.calls for engine in engines],
        "peak": [engine.peak for engine in engines],
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Makes all runs at the same time, as they only sleep."""
    head = result_head("balance", rate=options.rate, duration_s=options.duration)
    rows = await asyncio.gather(
        *(
            run(policy, seed, options.rate, options.duration)
            for policy in POLICIES
            for seed in range(1, options.seeds + 1)
        )
    )
    refused = {
        policy: round(
            sum(row["refused"] for row in rows if row["policy"] == policy)
            / sum(row["sent"] for row in rows if row["policy"] == policy),
            4,
        )
        for policy in POLICIES
    }
    for policy, share in refused.items():
        print(f"{policy:<33} refused {100 * share:.1f} %", flush=True)
    return head | {"refused": refused, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = parser_of("bench.affinity.balance", __doc__)
    parser.add_argument("--rate", type=float, default=1.3, help="calls a second")
    parser.add_argument("--duration", type=float, default=120.0, help="seconds in which calls are sent")
    parser.add_argument("--seeds", type=int, default=6, help="runs of each policy")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args(arguments)
    write_result(asyncio.run(measure(options)), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
