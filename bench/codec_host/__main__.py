"""What a codec stage's host costs for each stream: its processor time, by itself and with gRPC.

    python -m bench.codec_host
    python -m bench.codec_host --streams 64,256 --message-frames 1 --out bench/results/codec_host_cpu.json

The codec has the form for a GPU, but its device does nothing (`idle_device.py`), so what is measured is the part that a
GPU does not do. csm-1b's 32 codebooks, frames of 1,920 samples at 24 kHz, windows of 4,096 at 44.1 kHz. The bare server
answers a frame with as many samples. Both servers are processes of their own; the callers are this process. A caller
sends a message of frames when it has all samples of those before. With one frame in a message, every frame is a message
in each direction at any load. With more, as an engine sends them to streams that are ahead of their players, the stage
answers with as many if the streams are ahead: if the machine is fast enough for them. All streams are past their start.
The last line is one JSON object. Milliseconds are of a core, for one stream and frame:

  step_ms         `Codec.step` alone; median of --turns
  stage_ms        the whole stage over gRPC, codes in and 16-bit samples out; median of --turns
  bare_ms         the bare server
  streams_a_core  that one core carries by stage_ms. All of the stage's Python shares one core.
  without_grpc    the same by step_ms
  shares          of step_ms by module of csm_codec and csm_bundle, sampled
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import torch
from csm.codec.v1 import codec_pb2_grpc

from bench.codec_host.caller import FRAME_SAMPLES, Caller
from bench.codec_host.idle_device import Parts
from bench.codec_host.steps import GROUPS, TURN_STEPS, WARM_UP_STEPS, Steps, samples_after
from bench.command import integers, result_parser
from bench.deployment import program
from bench.deployment.cpu import process_cpu_s
from bench.deployment.program import flags
from bench.deployment.run import run_program
from bench.machine import result_head
from bench.report import write_result

FRAME_MS = 80.0  # of audio
LEAST_SHARE = 0.005


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = result_parser("bench.codec_host", __doc__)
    parser.add_argument("--streams", type=integers, default=[64, 256], help="at once, one number after the other")
    parser.add_argument("--message-frames", type=int, default=1, choices=[1, 2, 4, 8], help="sent at once")
    parser.add_argument("--max-batch-frames", type=int, default=8, help="of the stage")
    parser.add_argument("--turns", type=int, default=9, help=f"of {TURN_STEPS} frames of every stream")
    parser.add_argument("--bundle", type=Path, default=Path("build/bundles/tiny"))
    options = parser.parse_args(arguments)
    head = result_head("codec_host")
    try:
        rows = [
            row_of(options.bundle, count, options.turns, options.message_frames, options.max_batch_frames)
            for count in options.streams
        ]
    except (RuntimeError, OSError, grpc.RpcError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    load = round(os.getloadavg()[0], 1)
    note = f"Load average {load} on {os.cpu_count()} cores at the end. {options.note}"
    write_result(head | {"note": note.strip(), "rows": rows}, options.out)
    return 0


def row_of(bundle: Path, count: int, turns: int, message_frames: int, max_batch_frames: int) -> dict[str, Any]:
    """Raises RuntimeError when a process does not start or a stream is not whole."""
    torch.set_num_threads(1)
    parts = Parts.of_bundle(bundle)
    step_ms, shares = alone(parts, count, turns)
    samples = samples_after(parts, GROUPS + WARM_UP_STEPS + TURN_STEPS * turns)
    stage = whole(bundle, count, max_batch_frames)
    bare_ms, stage_ms = run_program(served(stage, count, turns, message_frames, samples))
    row = {
        "streams": count,
        "message_frames": message_frames,
        "max_batch_frames": max_batch_frames,
        "step_ms": round(step_ms, 3),
        "stage_ms": round(stage_ms, 3),
        "bare_ms": round(bare_ms, 3),
        "streams_a_core": int(FRAME_MS / stage_ms),
        "without_grpc": int(FRAME_MS / step_ms),
        "shares": shares,
    }
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def alone(parts: Parts, count: int, turns: int) -> tuple[float, dict[str, float]]:
    """Steps without a server."""
    steps = Steps(parts, count)
    return statistics.median(steps.turn() for _ in range(turns)), steps.shares(turns, LEAST_SHARE)


async def served(
    stage: AbstractAsyncContextManager[Arm], count: int, turns: int, message_frames: int, samples: Sequence[int]
) -> list[float]:
    """The two servers in turn: bare, whole. samples: of a stream of the whole one, by its number of frames"""
    async with server("bare") as bare, stage as whole:
        arms = (bare, whole)
        await bare.open(count, range(0, FRAME_SAMPLES * len(samples), FRAME_SAMPLES))
        await whole.open(count, samples)
        taken = [[await arm.turn(message_frames) for arm in arms] for _ in range(turns)]
        for arm in arms:
            await arm.close()
    return [statistics.median(column) for column in zip(*taken, strict=True)]


class Arm:
    """A server in a process of its own, and streams of it."""

    def __init__(self, stub: codec_pb2_grpc.CodecServiceStub, pid: int) -> None:
        self._stub, self._pid = stub, pid
        self._callers: list[Caller] = []

    async def open(self, count: int, samples_after: Sequence[int]) -> None:
        """Opens the streams, in groups, and takes them past their start. samples_after: see Caller"""
        for group in range(GROUPS):
            self._callers += [await Caller.open(self._stub, samples_after) for _ in range(group, count, GROUPS)]
            await self._frames(1)
        await self._frames(WARM_UP_STEPS)

    async def turn(self, message_frames: int) -> float:
        """The server's CPU milliseconds for a stream and frame."""
        begun_s = process_cpu_s(self._pid)
        await self._frames(TURN_STEPS, message_frames)
        return 1000 * (process_cpu_s(self._pid) - begun_s) / (TURN_STEPS * len(self._callers))

    async def close(self) -> None:
        """Ends the streams. Raises RuntimeError when one has not brought all its samples."""
        await asyncio.gather(*(caller.close() for caller in self._callers))

    async def _frames(self, number: int, message_frames: int = 1) -> None:
        await asyncio.gather(*(caller.frames(number, message_frames) for caller in self._callers))


@asynccontextmanager
async def whole(bundle: Path, slots: int, max_batch_frames: int) -> AsyncIterator[Arm]:
    """The codec stage over an idle device."""
    with tempfile.TemporaryDirectory() as scratch:
        options = {
            "bundle": bundle, "slots": slots, "watermark-keyring": Path(scratch) / "keys.json", "host": "127.0.0.1",
            "port": 0, "health-port": 0, "metrics-port": 0, "max-batch-frames": max_batch_frames,
        }  # fmt: skip
        async with server("whole", *flags(options)) as arm:
            yield arm


@asynccontextmanager
async def server(*arguments: str) -> AsyncIterator[Arm]:
    async with program.served("bench.codec_host.stage", *arguments) as (channel, pid):
        yield Arm(codec_pb2_grpc.CodecServiceStub(channel), pid)


if __name__ == "__main__":
    sys.exit(main())
