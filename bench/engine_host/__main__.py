"""What an engine stage's host costs for each stream: its processor time, beside that of a bare server of its messages.

    python -m bench.engine_host
    python -m bench.engine_host --streams 64,256,512 --seconds 20 --out bench/results/engine_host_cpu.json

The stage is whole, except that its frame steps and prefill passes only take time (`timed_step.py`), so what is measured
is the part that a GPU does not do: requests, texts, the scheduler, the loop, and gRPC. The bare server sends the same
frames when they are due. Both are processes of their own; the callers are this process. They speak csm-1b's 32
codebooks. A stream that is not whole ends the benchmark. The last line is one JSON object.

  cpu_ms          processor time of the stage for a second of one stream's audio, without its request
  request_ms      processor time of the stage for one request: from its arrival to its first frame, and its end
  bare_...        the same of the bare server
  streams_a_core  how many such streams one core carries, when each of them lasts for --seconds. All of the stage's
                  Python shares one core.
  messages        of a stream, the first and the last one included
  underruns       streams that ran dry, for a player with a buffer of 160 ms
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from bench.command import integers, result_parser
from bench.deployment import program
from bench.deployment.cpu import process_cpu_s
from bench.deployment.program import flags
from bench.deployment.run import run_program
from bench.listeners.playback import Arrival, play
from bench.machine import result_head
from bench.report import write_result
from csm_engine.scheduling.admission import FRAME_SECONDS

BUFFER_S = 0.16
LEAD_S = 2.0  # of a live stream before its playback, at most
TIMEOUT_S = 600.0
TEXT = "Right, so that is the plan for tomorrow then."


@dataclass(frozen=True)
class Arm:
    """A server, and the processor time in seconds that it has used so far."""

    stub: engine_pb2_grpc.EngineServiceStub
    cpu_s: Callable[[], float]


@dataclass(frozen=True)
class Heard:
    """A stream as its caller got it."""

    messages: int
    ran_dry: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = result_parser("bench.engine_host", __doc__)
    parser.add_argument("--streams", type=integers, default=[16, 64, 256], help="at once, one number after the other")
    parser.add_argument("--frames", type=integers, default=[1, 4, 8], help="of a message at most, likewise")
    parser.add_argument("--seconds", type=float, default=20.0, help="audio of each stream")
    parser.add_argument("--bundle", type=Path, default=Path("build/bundles/tiny"))
    options = parser.parse_args(arguments)
    head = result_head("engine_host")
    try:
        rows = run_program(rows_of(options.bundle, options.streams, options.frames, options.seconds))
    except (RuntimeError, OSError, grpc.RpcError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    load = round(os.getloadavg()[0], 1)
    note = f"Load average {load} on {os.cpu_count()} cores at the end; streams of {options.seconds:g} s. {options.note}"
    write_result(head | {"note": note.strip(), "rows": rows}, options.out)
    return 0


async def rows_of(bundle: Path, streams: Sequence[int], frames: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Raises RuntimeError when a process does not start or a stream is not whole."""
    rows = []
    async with whole(bundle, max(streams)) as stage:
        for most in frames:
            async with bare(most) as server:
                for count in streams:
                    bare_request_ms, request_ms = [
                        FRAME_SECONDS * (await cpu_ms(arm, count, 1, FRAME_SECONDS))[0] for arm in (server, stage)
                    ]
                    bare_ms, _ = await cpu_ms(server, count, most, seconds)
                    whole_ms, heard = await cpu_ms(stage, count, most, seconds)
                    row = {
                        "streams": count,
                        "most_frames_per_message": most,
                        "messages": round(sum(each.messages for each in heard) / count, 1),
                        "bare_cpu_ms": round(bare_ms - bare_request_ms / seconds, 2),
                        "cpu_ms": round(whole_ms - request_ms / seconds, 2),
                        "bare_request_ms": round(bare_request_ms, 2),
                        "request_ms": round(request_ms, 2),
                        "streams_a_core": int(1000 / whole_ms),
                        "underruns": sum(each.ran_dry for each in heard),
                    }
                    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                    rows.append(row)
    return rows


async def cpu_ms(arm: Arm, count: int, most_frames: int, seconds: float) -> tuple[float, list[Heard]]:
    """Processor time for a second of one stream, with all that its request takes; and the streams."""
    begun_s = arm.cpu_s()
    async with asyncio.TaskGroup() as group:
        hearing = [group.create_task(hear(arm, number, count, most_frames, seconds)) for number in range(count)]
    return 1000 * (arm.cpu_s() - begun_s) / (count * seconds), [task.result() for task in hearing]


async def hear(arm: Arm, number: int, count: int, most_frames: int, seconds: float) -> Heard:
    """One of `count` streams, which begin within half of `seconds`. No two texts are alike."""
    await asyncio.sleep(seconds / 2 * number / count)
    num_frames = round(seconds / FRAME_SECONDS)
    request = engine_pb2.GenerateRequest(
        request_id=f"{number}",
        segments=[engine_pb2.Segment(speaker_id=0, text=f"{number} of {time.monotonic():.6f}: {TEXT}")],
        max_frame_count=num_frames,
        max_batch_frame_count=most_frames,
        live=True,
    )
    arrivals, messages, received = [], 0, 0
    async for response in arm.stub.Generate(request, timeout=TIMEOUT_S):
        messages += 1
        if frames := response.frames.frame_count:
            arrivals.append(Arrival(time.monotonic(), frames * FRAME_SECONDS))
            received += frames
    if received != num_frames:
        raise RuntimeError(f"a stream of {num_frames} frames had {received}")
    playback = play(arrivals, BUFFER_S)
    return Heard(messages, playback is not None and bool(playback.stalls))


@asynccontextmanager
async def whole(bundle: Path, slots: int) -> AsyncIterator[Arm]:
    """The engine stage over steps that only take time."""
    options = {
        "bundle": bundle, "slots": slots, "spare-slots": 0, "max-waiting": slots, "saturation-batch": slots,
        "prefill-chunk": 512, "max-playout-lead-seconds": LEAD_S, "host": "127.0.0.1", "port": 0, "health-port": 0,
        "metrics-port": 0,
    }  # fmt: skip
    async with server("whole", *flags(options)) as arm:
        yield arm


@asynccontextmanager
async def bare(frames: int) -> AsyncIterator[Arm]:
    async with server("bare", str(frames)) as arm:
        yield arm


@asynccontextmanager
async def server(*arguments: str) -> AsyncIterator[Arm]:
    async with program.served("bench.engine_host.stage", *arguments) as (channel, pid):
        arm = Arm(engine_pb2_grpc.EngineServiceStub(channel), lambda: process_cpu_s(pid))
        await hear(arm, 0, 1, 1, FRAME_SECONDS)  # warm-up
        yield arm


if __name__ == "__main__":
    sys.exit(main())
