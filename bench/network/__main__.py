"""Delay and loss between the stages: time to first audio and underruns against both.

    python -m bench.network --bundle build/bundles/tiny --out bench/results/network_tiny_cpu.json

Gateway, engine and codec are processes. Engine and codec are in network namespaces of their own; every packet to and
from them waits for the delay or is lost (bench/network/relay.py). It needs root and /dev/net/tun, and says so where it
has not. Streams follow each other, one at a time, and the conditions take turns in every round, so that other work on
the machine disturbs all of them alike. The last line is one JSON object.

  delay_ms, loss_percent  of every packet, each way, between the gateway and each of the two stages
  rtt_ms                  smallest of five TCP connections to the engine: what the way really takes
  ttfa_ms                 from the call to the first audio at the client, which is beside the gateway
  with_underrun           streams that ran dry; playback starts with the first audio or --jitter-buffer-ms later
  *_bytes_per_audio_s     IP bytes to and from the stage for a second of audio, with health checks and acknowledgements
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.command import numbers, result_parser
from bench.deployment.run import run_program
from bench.listeners.load import Load, StreamRecord, open_channel
from bench.listeners.percentiles import spread
from bench.listeners.playback import play
from bench.listeners.summary import audio_s, ratio
from bench.listeners.workload import PROMPTS, PlannedRequest
from bench.machine import result_head
from bench.network.deployment import FAR_STAGES, FarStages, far_stages, why_not
from bench.report import write_result

DEADLINE_S = 120.0
PROBES = 5

Condition = tuple[float, float]  # delay in ms, loss in percent


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = result_parser("bench.network", __doc__)
    parser.add_argument("--bundle", type=Path, default=Path("build/bundles/tiny"))
    parser.add_argument("--delays", type=numbers, default=[0, 5, 20, 50, 100], help="ms each way: 0,5,20")
    parser.add_argument("--losses", type=numbers, default=[0, 0.1, 1], help="percent of packets each way: 0,1")
    parser.add_argument("--rounds", type=int, default=8, help="streams of each condition (default: %(default)s)")
    parser.add_argument("--audio-seconds", type=float, default=4.0, help="most audio of a stream")
    parser.add_argument("--jitter-buffer-ms", type=float, default=200.0, help="of the second playback")
    options = parser.parse_args(arguments)
    if reason := why_not():
        print(f"skipped, nothing was measured: {reason}", file=sys.stderr)
        return 0
    result = run_program(benchmark(options))
    write_result(result, options.out)
    return 0


async def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """The result, which is the last line of the output."""
    conditions = [(delay, loss) for loss in options.losses for delay in options.delays]
    head = result_head("network", note=options.note, model=options.bundle.name, max_audio_s=[options.audio_seconds])
    with tempfile.TemporaryDirectory() as folder:
        async with far_stages(options.bundle, Path(folder)) as deployment, open_channel(deployment.target) as channel:
            load = Load(channel, deadline_s=DEADLINE_S, probe_interval_s=0)
            await load.run([request(seed, options.audio_seconds) for seed in range(2)])  # warm
            cpu_before = {name: stage.cpu_s() for name, stage in deployment.stages.items()}
            runs = [await run(condition, options, deployment, load) for condition in conditions]
            for index in range(1, options.rounds):
                for at, condition in enumerate(conditions):
                    runs[at].add(await run(condition, options, deployment, load, index))
                print(f"round {index + 1} of {options.rounds}", flush=True)
            audio = sum(audio_s(stream) for each in runs for stream in each.streams)
            stages = {
                name: {
                    "rss_mb": stage.rss_mb(),
                    "cpu_s_per_audio_s": round((stage.cpu_s() - cpu_before[name]) / audio, 4),
                }
                for name, stage in deployment.stages.items()
            }
    rows = [each.row(options.jitter_buffer_ms) for each in runs]
    return head | {"stages": stages, "rows": rows}


class ConditionRuns:
    """The results of all streams under one condition."""

    def __init__(self, condition: Condition, rtt_ms: float) -> None:
        self.condition = condition
        self.rtt_ms = rtt_ms
        self.streams: list[StreamRecord] = []
        self.carried = dict.fromkeys(FAR_STAGES, 0)  # bytes, both directions together

    def add(self, other: ConditionRuns) -> None:
        self.rtt_ms = min(self.rtt_ms, other.rtt_ms)
        self.streams += other.streams
        for stage, count in other.carried.items():
            self.carried[stage] += count

    def row(self, buffer_ms: float) -> dict[str, Any]:
        sounding = [stream for stream in self.streams if stream.audio]
        ttfa_ms = spread(stream.audio[0].at_s - stream.dispatched_at_s for stream in sounding) or {}
        audio = sum(audio_s(stream) for stream in sounding)
        played = {buffer: [play(stream.audio, buffer / 1000) for stream in sounding] for buffer in (0.0, buffer_ms)}
        stalls = [stall.seconds for playback in played[0.0] if playback for stall in playback.stalls]
        bytes_per_s = {
            f"{stage}_bytes_per_audio_s": round(count / audio) if audio else None
            for stage, count in self.carried.items()
        }
        return {
            "delay_ms": self.condition[0],
            "loss_percent": self.condition[1],
            "rtt_ms": self.rtt_ms,
            "streams": len(self.streams),
            "failed": sum(stream.outcome != "complete" for stream in self.streams),
            "ttfa_p50_ms": ttfa_ms.get("p50"),
            "ttfa_max_ms": ttfa_ms.get("max"),
            **{
                f"with_underrun_{buffer:g}_ms_buffer": ratio(sum(bool(p and p.stalls) for p in each), len(sounding))
                for buffer, each in played.items()
            },
            "longest_stall_ms": round(1000 * max(stalls, default=0.0), 1),
            **bytes_per_s,
        }


async def run(
    condition: Condition, options: argparse.Namespace, deployment: FarStages, load: Load, index: int = 0
) -> ConditionRuns:
    """One stream under a condition."""
    delay_ms, loss_percent = condition
    await deployment.set(delay_ms, loss_percent / 100)
    engine = deployment.stages["engine"]
    result = ConditionRuns(condition, await rtt_ms(engine.host, engine.api_port))
    await deployment.set(delay_ms, loss_percent / 100)  # bytes are counted from here on
    result.streams += (await load.run([request(index, options.audio_seconds)])).streams
    carried = await deployment.set(delay_ms, loss_percent / 100)
    result.carried = {stage: sum(counts) for stage, counts in carried.items()}
    return result


def request(index: int, seconds: float) -> PlannedRequest:
    return PlannedRequest(0.0, PROMPTS[index % len(PROMPTS)], index % 2, index, seconds, None)


async def rtt_ms(host: str, port: int) -> float:
    """The shortest time in which a TCP connection is made."""
    took = []
    for _ in range(PROBES):
        began = time.perf_counter()
        _, writer = await asyncio.open_connection(host, port)
        took.append(time.perf_counter() - began)
        writer.close()
    return round(1000 * min(took), 2)


if __name__ == "__main__":
    sys.exit(main())
