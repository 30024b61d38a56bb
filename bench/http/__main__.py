"""The HTTP door: first byte of audio over HTTP against gRPC's first message, and many streams at once.

    python -m bench.http
    python -m bench.http --pairs 100 --streams 200 --seconds 20 --out bench/results/http_door_cpu.json

    python -m bench.http --bundle bundles/builtin --pairs 50 --out bench/results/http_door_builtin_voice_cpu.json

Gateway and door are processes of their own; engine and codec are stand-ins that make audio at once. Calls go to the
two doors in turn, on one kept channel and one kept connection, with the same text and seed. Then all streams run at
once, each read as fast as it comes, while the resident memory of the door is read four times a second. With --bundle an
all-in-one server speaks instead, before a door of its own, and there are no streams at once. The last line is one JSON
object.

  first_audio_ms        until the first audio message, or the first byte of the audio
  added_p50_ms          by how much HTTP's median is later
  door_cpu_ms           with --bundle: processor time of the door for one call
  memory_growth         of the door, from when the last stream had its first audio: largest over first reading
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.command import parser_of
from bench.deployment.process import StageProcess, call_options
from bench.deployment.program import printed_ports, program
from bench.deployment.run import run_program
from bench.http.callers import GrpcCaller, HttpCaller
from bench.listeners.own_server import own_server
from bench.listeners.percentiles import nearest_rank
from bench.machine import result_head
from bench.report import write_result

SHORT_FRAMES = 10  # in the calls whose first audio is timed
FRAME_S = 0.08
WARM_UP = 10
EVERY_S = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = parser_of("bench.http", __doc__)
    parser.add_argument("--pairs", type=int, default=100, help="calls to each door, in turn")
    parser.add_argument("--streams", type=int, default=200, help="HTTP streams at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="audio of each of those")
    parser.add_argument("--bundle", help="real stages with this bundle, in place of the stand-ins")
    parser.add_argument("--out", type=Path, help="write the result here as well")
    options = parser.parse_args(arguments)
    try:
        if options.bundle is None:
            result = run_program(benchmark(options.pairs, options.streams, options.seconds))
        else:
            result = run_program(with_real_stages(options.bundle, options.pairs))
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for row in result["rows"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    write_result(result, options.out)
    return 0


async def benchmark(pairs: int, streams: int, seconds: float) -> dict[str, Any]:
    """Raises RuntimeError when a process does not start or an answer is wrong."""
    async with doors(SHORT_FRAMES) as (gateway_port, http):
        grpc_s, http_s = await in_turn(gateway_port, http.api_port, pairs)
    frames = round(seconds / FRAME_S)
    async with doors(frames) as (_, http):
        load = await at_once(http, streams, frames)
    result = compared(grpc_s, http_s)
    result["load"] = load
    result["note"] += (
        f" {streams} HTTP streams at once of {seconds:g} s: {load['complete']} complete in {load['wall_s']} s; the"
        f" door's memory {load['first_mib']} MiB when the last one had audio, {load['most_mib']} MiB at most"
    )
    return result


async def with_real_stages(bundle: str, pairs: int) -> dict[str, Any]:
    """Raises RuntimeError when a process does not start or an answer is wrong."""
    async with own_server(bundle, []) as target, door(target, target) as http:
        begun_s = http.cpu_s()
        grpc_s, http_s = await in_turn(int(target.rpartition(":")[2]), http.api_port, pairs)
        cpu_ms = round(1000 * (http.cpu_s() - begun_s) / (WARM_UP + pairs), 1)
    load = round(os.getloadavg()[0], 1)
    result = compared(grpc_s, http_s) | {"bundle": bundle, "door_cpu_ms": cpu_ms, "load_average": load}
    result["note"] += (
        f" Real stages; load average {load} on {os.cpu_count()} cores, which the times show and the processor time does"
        f" not: the door takes {cpu_ms} ms of it for a call with {SHORT_FRAMES * FRAME_S:g} s of audio"
    )
    return result


def compared(grpc_s: Sequence[float], http_s: Sequence[float]) -> dict[str, Any]:
    """The figures from both doors' times to first audio, in seconds."""
    rows: list[dict[str, Any]] = [
        {
            "door": name,
            "calls": len(times_s),
            "first_audio_p50_ms": percentile_ms(times_s, 50),
            "first_audio_p95_ms": percentile_ms(times_s, 95),
        }
        for name, times_s in (("gRPC", grpc_s), ("HTTP", http_s))
    ]
    added = round(rows[1]["first_audio_p50_ms"] - rows[0]["first_audio_p50_ms"], 2)
    note = f"HTTP's first byte is {added} ms after gRPC's first message (medians)."
    return result_head("http door", added_p50_ms=added, note=note, rows=rows)


async def in_turn(gateway_port: int, http_port: int, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds to the first audio, by gRPC and by HTTP."""
    most_s = SHORT_FRAMES * FRAME_S
    grpc_caller, http_caller = GrpcCaller(f"127.0.0.1:{gateway_port}", most_s), HttpCaller(http_port, most_s)
    await http_caller.open()
    grpc_s, http_s = [], []
    for _ in range(WARM_UP + pairs):
        grpc_s.append(await grpc_caller.first_audio_s())
        http_s.append((await http_caller.first_audio_s())[0])
    await grpc_caller.close()
    await http_caller.close()
    return grpc_s[WARM_UP:], http_s[WARM_UP:]


async def at_once(http: StageProcess, streams: int, frames: int) -> dict[str, Any]:
    """Raises RuntimeError for a stream that is not whole."""
    callers = [HttpCaller(http.api_port, frames * FRAME_S) for _ in range(streams)]
    for caller in callers:
        await caller.open()
    begun = 0

    def on_first() -> None:
        nonlocal begun
        begun += 1

    readings: list[tuple[int, float]] = []  # (streams begun, resident MiB)

    async def watch() -> None:
        while True:
            readings.append((begun, http.rss_mb()))
            await asyncio.sleep(EVERY_S)

    watching = asyncio.create_task(watch())
    started_s = time.perf_counter()
    answers = await asyncio.gather(*(caller.first_audio_s(on_first) for caller in callers))
    wall_s = time.perf_counter() - started_s
    watching.cancel()
    for caller in callers:
        await caller.close()
    whole = sum(count == frames * 1920 * 2 for _, count in answers)
    if whole != streams:
        raise RuntimeError(f"only {whole} of {streams} streams were whole")
    with_all = [mib for count, mib in readings if count == streams] or [readings[-1][1]]
    return {
        "streams": streams,
        "audio_s": frames * FRAME_S,
        "complete": whole,
        "wall_s": round(wall_s, 1),
        "first_audio_p50_ms": percentile_ms([first_s for first_s, _ in answers], 50),
        "readings": len(with_all),
        "first_mib": round(with_all[0], 1),
        "last_mib": round(with_all[-1], 1),
        "most_mib": round(max(with_all), 1),
        "memory_growth": round(max(with_all) / with_all[0], 3),
    }


def percentile_ms(times_s: Sequence[float], percent: int) -> float:
    return round(1000 * nearest_rank(times_s, percent), 2)


@asynccontextmanager
async def doors(frame_count: int) -> AsyncIterator[tuple[int, StageProcess]]:
    """The port of a gateway, and the HTTP door in front of it."""
    async with program("bench.http.stand_ins", str(frame_count)) as stand_ins:
        port, health_port = await printed_ports(stand_ins)
        async with door(f"127.0.0.1:{port}", f"127.0.0.1:{health_port}") as http:
            yield port, http


@asynccontextmanager
async def door(target: str, health_target: str) -> AsyncIterator[StageProcess]:
    """An HTTP door before a gateway."""
    options = ["--drain-seconds", "0", *call_options("gateway", target, health_target)]
    with tempfile.TemporaryDirectory() as folder:
        async with StageProcess("http", 0, options, Path(folder)).running() as http:
            yield http


if __name__ == "__main__":
    sys.exit(main())
