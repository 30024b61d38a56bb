"""What a gateway costs for each stream: its processor time, beside that of a bare relay of the same messages.

    python -m bench.gateway
    python -m bench.gateway --streams 1,10,30 --seconds 20 --out bench/results/gateway_cpu.json

Stand-ins of engine and codec send as much as is played, in messages of one or of several frames. Gateway, relay and
stand-ins are processes of their own. For each number of streams and each size of messages the streams run once through
the relay and once through the gateway, all at once. A stream that is not whole ends the benchmark. The last line is one
JSON object.

  cpu_ms           processor time of the process for a second of one stream's audio
  over_relay       the gateway's over the relay's
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from csm.v1 import tts_pb2_grpc
from csm_client.requests import stream_request

from bench.command import integers, parser_of
from bench.deployment.cpu import process_cpu_s
from bench.deployment.process import StageProcess, call_options
from bench.deployment.program import printed_ports, program
from bench.deployment.run import run_program
from bench.machine import result_head
from bench.report import write_result

FRAME_S = 0.08
SAMPLE_RATE_HZ = 24_000
WARM_UP_S = 1.0
TIMEOUT_S = 300.0

CpuSeconds = Callable[[], float]  # that a process has used so far


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = parser_of("bench.gateway", __doc__)
    parser.add_argument("--streams", type=integers, default=[1, 10, 30], help="at once, one number after the other")
    parser.add_argument("--frames", type=integers, default=[1, 4], help="of a message, likewise")
    parser.add_argument("--seconds", type=float, default=20.0, help="audio of each stream")
    parser.add_argument("--out", type=Path, help="write the result here as well")
    options = parser.parse_args(arguments)
    head = result_head("gateway")
    try:
        rows = run_program(rows_of(options.streams, options.frames, options.seconds))
    except (RuntimeError, OSError, grpc.RpcError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    load = round(os.getloadavg()[0], 1)
    note = f"Load average {load} on {os.cpu_count()} cores at the end; streams of {options.seconds:g} s."
    write_result(head | {"note": note, "rows": rows}, options.out)
    return 0


async def rows_of(streams: Sequence[int], frames: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Raises RuntimeError when a process does not start or a stream is not whole."""
    rows = []
    for batch_frames in frames:
        async with stand_ins(batch_frames) as stages, relay(stages) as bare, gateway(stages) as whole:
            for count in streams:
                relay_ms, gateway_ms = [await cpu_ms(*arm, count, seconds) for arm in (bare, whole)]
                row = {
                    "frames_per_message": batch_frames,
                    "streams": count,
                    "relay_cpu_ms": round(relay_ms, 2),
                    "gateway_cpu_ms": round(gateway_ms, 2),
                    "over_relay": round(gateway_ms / relay_ms, 2),
                }
                print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                rows.append(row)
    return rows


async def cpu_ms(port: int, cpu_s: CpuSeconds, count: int, seconds: float) -> float:
    """Processor time for a second of one stream. cpu_s: of the process behind the port"""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        await hear(stub, WARM_UP_S)
        begun_s = cpu_s()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(hear(stub, seconds, after_s=FRAME_S * number / count))
        return 1000 * (cpu_s() - begun_s) / (count * seconds)


async def hear(stub: tts_pb2_grpc.TextToSpeechServiceStub, seconds: float, after_s: float = 0.0) -> None:
    await asyncio.sleep(after_s)
    num_samples = 0
    async for response in stub.StreamSynthesize(stream_request("Hello.", {"max_seconds": seconds}), timeout=TIMEOUT_S):
        num_samples += response.audio_chunk.sample_count
    if num_samples != round(seconds / FRAME_S) * round(FRAME_S * SAMPLE_RATE_HZ):
        raise RuntimeError(f"a stream of {seconds:g} s had {num_samples} samples")


@asynccontextmanager
async def stand_ins(batch_frames: int) -> AsyncIterator[dict[str, tuple[int, int]]]:
    """API and health port of each stage."""
    async with program("bench.gateway.stand_ins", str(batch_frames)) as running:
        engine, codec = [await printed_ports(running) for _ in range(2)]
        yield {"engine": (engine[0], engine[1]), "codec": (codec[0], codec[1])}


@asynccontextmanager
async def relay(stages: dict[str, tuple[int, int]]) -> AsyncIterator[tuple[int, CpuSeconds]]:
    ports = [str(stages[stage][0]) for stage in ("engine", "codec")]
    async with program("bench.gateway.relay", *ports) as running:
        (port,) = await printed_ports(running)
        yield port, lambda: process_cpu_s(running.pid)


@asynccontextmanager
async def gateway(stages: dict[str, tuple[int, int]]) -> AsyncIterator[tuple[int, CpuSeconds]]:
    options = ["--code-sealing", "open", "--voices-database", ""]
    for stage, (port, health_port) in stages.items():
        options += call_options(stage, f"127.0.0.1:{port}", f"127.0.0.1:{health_port}")
    with tempfile.TemporaryDirectory() as folder:
        async with StageProcess("gateway", 0, options, Path(folder)).running() as process:
            await process.wait_ready()
            yield process.api_port, process.cpu_s


if __name__ == "__main__":
    sys.exit(main())
