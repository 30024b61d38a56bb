"""Part of a lease: the whole service on the device under open load: processes of each stage, over gRPC.

    python3 -m bench.lease.service --levels 1,16,64,128,256 --codecs 3 --gateways 4
    python3 -m bench.lease.service --engine-flags "--quantization int8 --depth-kernel"

Weights are random, so no stream ends before its longest audio, and a level is a number of streams: requests arrive as
often as so many streams end. Engines and codecs share the device and the streams, because the Python of a codec process
carries some 150 streams (`bench.codec_host`). `bench.serving` defines the load and the figures of a row. Besides, of
each stage: `cpu_ms`, its processor time for a second of audio that was received, with all threads and the driver's
part. The load's own program runs on the same machine. `repeats` says whether a request alone gave the same samples
twice.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from csm_client import AsyncClient

from bench.command import integers
from bench.deployment.process import StageProcess, call_options, target_of
from bench.deployment.run import run_program
from bench.lease.figures import Figures
from bench.lease.options import opened, parser
from bench.listeners.load import Load
from bench.listeners.summary import summarize
from bench.listeners.workload import AudioLength, plan
from bench.shapes import SHAPES
from tests.support.tiny.published import write_random_bundle

_MORE_SLOTS = 24  # than wanted streams, as random arrivals exceed the mean
_ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
_DEADLINE_S = 120.0


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--levels", type=integers, default=[1, 16, 64, 128, 256], help="streams at once")
    options.add_argument("--audio-s", type=float, default=8.0, help="longest stream")
    options.add_argument("--duration-s", type=float, default=24.0, help="seconds in which a level's requests arrive")
    options.add_argument("--engines", type=int, default=1, help="processes")
    options.add_argument("--codecs", type=int, default=2, help="processes")
    options.add_argument("--gateways", type=int, default=4, help="processes, which get the calls in turn")
    options.add_argument("--max-playout-lead-s", type=float, default=2.0, help="seconds that a stream may be ahead")
    options.add_argument("--saturation-batch", type=int, default=64)
    options.add_argument("--engine-flags", type=shlex.split, default=[], help="more of them, in one argument")
    options.add_argument("--codec-flags", type=shlex.split, default=[], help="more of them, in one argument")
    options.add_argument("--logs", type=Path, help="folder for the processes' logs; nowhere when not given")
    arguments = options.parse_args()
    run_program(measure(arguments, opened("service", arguments)))


async def measure(arguments: argparse.Namespace, figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        write_random_bundle(bundle, SHAPES[arguments.shape])
        logs = arguments.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            began = time.monotonic()
            stages = await start(stack, arguments, bundle, logs)
            figures.add(
                ready_s=round(time.monotonic() - began, 1),
                processes={stage: len(processes) for stage, processes in stages.items()},
                max_playout_lead_s=arguments.max_playout_lead_s,
                saturation_batch=arguments.saturation_batch,
                engine_flags=arguments.engine_flags,
                codec_flags=arguments.codec_flags,
            )
            channel = await stack.enter_async_context(channel_to(stages["gateway"]))
            figures.add(repeats=await speak_once(channel) == await speak_once(channel))
            for level in sorted(arguments.levels):
                figures.add(**await row_of(level, arguments, channel, stages))
            figures.add(tracebacks={process.name: process.tracebacks() for process in every(stages)})


async def start(
    stack: AsyncExitStack, arguments: argparse.Namespace, bundle: Path, folder: Path
) -> dict[str, list[StageProcess]]:
    """The processes of each stage, ready. They end with `stack`. folder: for logs, keys and the voices' databases."""
    numbers = {"engine": arguments.engines, "codec": arguments.codecs}
    slots = {stage: math.ceil(max(arguments.levels) / number) + _MORE_SLOTS for stage, number in numbers.items()}
    common = ["--bundle", str(bundle), "--device", str(arguments.device), "--dtype", arguments.dtype]
    options = {
        "engine": [
            "--random-weights", "--spare-slots", "0", "--max-waiting", str(slots["engine"]),
            "--max-playout-lead-seconds", str(arguments.max_playout_lead_s),
            "--saturation-batch", str(min(arguments.saturation_batch, slots["engine"])), *arguments.engine_flags,
        ],
        "codec": [
            "--watermark-dtype", arguments.dtype, "--max-waiting-streams", str(slots["codec"]),
            "--watermark-keyring", str(folder / "marks.json"), *arguments.codec_flags,
        ],
    }  # fmt: skip

    async def begin(stage: str, number: int, words: Sequence[str]) -> StageProcess:
        process = StageProcess(stage, number, words, folder)
        await stack.enter_async_context(process.running())
        await process.wait_ready()
        return process

    async def begin_all(stage: str) -> list[StageProcess]:
        words = [*common, "--slots", str(slots[stage]), *options[stage]]
        first = await begin(stage, 0, words)  # makes the keys, and compiles what the others read
        return [first, *await asyncio.gather(*(begin(stage, number, words) for number in range(1, numbers[stage])))]

    # Together: each compiles kernels or captures graphs for a while.
    engines, codecs = await asyncio.gather(begin_all("engine"), begin_all("codec"))
    targets = [*options_of_callers(engines), *options_of_callers(codecs)]
    targets += ["--code-sealing-keyring", str(folder / "seals.json")]
    gateways = [
        await begin("gateway", number, [*targets, "--voices-database", str(folder / f"voices-{number}.sqlite")])
        for number in range(arguments.gateways)
    ]
    return {"engine": engines, "codec": codecs, "gateway": gateways}


def every(stages: Mapping[str, Sequence[StageProcess]]) -> list[StageProcess]:
    return [process for processes in stages.values() for process in processes]


def options_of_callers(processes: Sequence[StageProcess]) -> list[str]:
    """Options of a process that calls these, of one stage."""
    target = target_of(process.api_port for process in processes)
    return call_options(processes[0].stage, target, target_of(process.health_port for process in processes))


def channel_to(gateways: Sequence[StageProcess]) -> grpc.aio.Channel:
    """A channel without retries, whose calls go to the gateways in turn."""
    target = target_of(gateway.api_port for gateway in gateways)
    options = [("grpc.enable_retries", 0), ("grpc.service_config", _ROUND_ROBIN)]
    return grpc.aio.insecure_channel(target, options=options)


async def speak_once(channel: grpc.aio.Channel) -> str:
    """A digest of the samples of a fixed request."""
    client = AsyncClient("", timeout_s=_DEADLINE_S, channel=channel)
    speech = await client.synthesize("The same words, once more.", seed=7, max_seconds=2)
    return hashlib.sha256(speech.samples).hexdigest()


async def row_of(
    level: int,
    arguments: argparse.Namespace,
    channel: grpc.aio.Channel,
    stages: Mapping[str, Sequence[StageProcess]],
) -> dict[str, object]:
    """The figures of so many streams at once."""
    length_s = min(arguments.audio_s, max(1.0, level / 2))  # few streams are short, so that enough of them begin
    rate, seconds = level / length_s, arguments.duration_s
    requests = plan(rate, seconds, level, AudioLength(length_s, length_s))
    before = {stage: sum(process.cpu_s() for process in processes) for stage, processes in stages.items()}
    record = await Load(channel, deadline_s=_DEADLINE_S).run(requests)
    audio_s = sum(audio.audio_s for stream in record.streams for audio in stream.audio)
    cpu_ms = {
        stage: round(1000 * (sum(process.cpu_s() for process in processes) - before[stage]) / audio_s, 2)
        for stage, processes in stages.items()
        if audio_s
    }
    return {"streams": level, "length_s": length_s, "cpu_ms": cpu_ms} | summarize(record, rate, seconds, 0.0)


if __name__ == "__main__":
    main()
