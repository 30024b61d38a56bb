"""From the kept measurements to a fleet: docs/sizing.md.

    python -m bench.sizing --write                                # the page, after new results
    python -m bench.sizing --listeners 5000 --gpu-hour 2.5 --core-hour 0.04 --gigabyte 0.05

Every figure comes from a file in bench/results and is named with it. It measures nothing, and what no file has it names
as not measured. Prices are variables: none is known here. It needs no torch.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "sizing.md"
ENGINE, CODEC, NETWORK = "engine_under_load_csm_1b_h100.json", "codec_published_cpu.json", "network_tiny_cpu.json"
FIRST_AUDIO_MS = 1000  # a load counts as held when 95 % of its first frames come sooner
FULL_AT = 0.75  # the share of its slots at which deploy/kubernetes adds an engine
STEPS = (1, 1_000, 100_000, 1_000_000)

Json = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What one stream costs, each figure with the machine that it was measured on."""

    streams_per_gpu: int
    gpu: str
    streams_per_codec_core: float
    codec_batch: int
    codec_core: str
    gateway_core: float  # share of a core for a stream in real time
    engine_bytes: int  # between gateway and engine, both ways, for a second of audio
    codec_bytes: int
    small_core: str  # that gateway and bytes were measured on
    rss_mb: dict[str, float]  # of a process, by stage

    @classmethod
    def read(cls, folder: Path) -> Measured:
        """Raises FileNotFoundError for a file that is not there, ValueError for one without the figures."""
        engine, codec, network = (json.loads((folder / name).read_text()) for name in (ENGINE, CODEC, NETWORK))
        held = [row for row in engine["rows"] if is_held(row)]
        both = [row for row in codec["rows"] if row["arm"] == "both"]
        near = [row for row in network["rows"] if not row["delay_ms"] and not row["loss_percent"]]
        if not (held and both and near):
            raise ValueError(f"{folder} has no load that an engine held, no codec arm `both`, or no undelayed network.")
        best = max(both, key=lambda row: row["streams_in_real_time"])
        return cls(
            streams_per_gpu=max(row["streams"] for row in held),
            gpu=engine["device"],
            streams_per_codec_core=best["streams_in_real_time"],
            codec_batch=best["batch"],
            codec_core=codec["device"],
            gateway_core=network["stages"]["gateway"]["cpu_s_per_audio_s"],
            engine_bytes=near[0]["engine_bytes_per_audio_s"],
            codec_bytes=near[0]["codec_bytes_per_audio_s"],
            small_core=network["device"],
            rss_mb={name: stage["rss_mb"] for name, stage in network["stages"].items()},
        )


def is_held(row: Json) -> bool:
    """Whether an engine held this load: all began, none ran dry, first frames soon."""
    late = row["ttfa_p95_ms"] is None or row["ttfa_p95_ms"] > FIRST_AUDIO_MS
    return not (late or row["refused"] or row["silent"] or row["streams_with_underrun"])


@dataclass(frozen=True)
class Fleet:
    """What a number of listeners at the same moment needs."""

    listeners: int
    engines: int
    codec_cores: int
    gateway_cores: int
    inner_bits: float  # a second, between the stages
    outer_bits: float  # a second, to the callers, at least


def fleet(listeners: int, measured: Measured, full_at: float = FULL_AT, rate_hz: int = 24_000) -> Fleet:
    """full_at: share of a replica's measured load that it is given; rate_hz: of 16-bit samples to callers"""
    streams = listeners / full_at
    return Fleet(
        listeners,
        math.ceil(streams / measured.streams_per_gpu),
        math.ceil(streams / measured.streams_per_codec_core),
        math.ceil(streams * measured.gateway_core),
        8.0 * listeners * (measured.engine_bytes + measured.codec_bytes),
        8.0 * listeners * 2 * rate_hz,
    )


@dataclass(frozen=True)
class Minute:
    """What one minute of speech takes, at a fleet that is full to a share."""

    gpu_hours: float
    core_hours: float
    gigabytes: float  # to callers

    def cost(self, gpu_hour: float, core_hour: float, gigabyte: float) -> float:
        return self.gpu_hours * gpu_hour + self.core_hours * core_hour + self.gigabytes * gigabyte


def minute(measured: Measured, full_at: float = FULL_AT, rate_hz: int = 24_000) -> Minute:
    cores = 1 / measured.streams_per_codec_core + measured.gateway_core
    return Minute(1 / (60 * measured.streams_per_gpu * full_at), cores / (60 * full_at), 60 * 2 * rate_hz / 1e9)


def page(measured: Measured) -> str:
    """docs/sizing.md."""
    million, one = fleet(1_000_000, measured), minute(measured)
    rows = "\n".join(
        f"| {each.listeners:,} | {each.engines:,} | {each.codec_cores:,} | {each.gateway_cores:,} |"
        f" {bits(each.inner_bits)} | {bits(each.outer_bits)} |"
        for each in (fleet(count, measured) for count in STEPS)
    )
    rss = ", ".join(f"{name} {mb:.0f} MB" for name, mb in measured.rss_mb.items())
    ratio, full = million.codec_cores / million.engines, f"{100 * FULL_AT:.0f} %"
    return f"""# Sizing: from one machine to a million listeners

Made by `python -m bench.sizing --write` from `bench/results`; do not edit it. A listener is a stream that plays now, in
real time. A caller that listens a third of the time is a third of a listener.

## What one stream takes

| | measured | on | from |
|---|---|---|---|
| streams per GPU, engine | {measured.streams_per_gpu} | {measured.gpu} | {link(ENGINE)} |
| streams per core, codec with mark | {measured.streams_per_codec_core:g} | {measured.codec_core} | {link(CODEC)} |
| cores per stream, gateway | {measured.gateway_core:g} | {measured.small_core} | {link(NETWORK)} |
| bytes a second of audio, gateway and engine | {measured.engine_bytes:,} | {measured.small_core} | {link(NETWORK)} |
| bytes a second of audio, gateway and codec | {measured.codec_bytes:,} | {measured.small_core} | {link(NETWORK)} |

* **Engine:** the highest load of the file that was held: every stream began, none ran dry, 95 % of the first frames
  came within {FIRST_AUDIO_MS} ms. CSM-1B's sizes with random weights, alone, with products that are not the default
  any more. `--slots` must be as large. The next load of the file was not held.
* **Codec:** the published sizes in float32, at batch {measured.codec_batch}, the best of the file. Random weights.
* **Gateway and bytes:** the tiny bundle, which has CSM-1B's 32 codebooks and 24 kHz; one stream at a time, so what
  streams share counts in full. Bytes are those of IP, both ways, with acknowledgements and health checks.

**Memory.** Keys and values of CSM-1B are 64 MiB a slot in bfloat16, by its shapes ([engine.md](engine.md)); the memory
of a GPU in use was not measured. Processes of the tiny bundle, resident: {rss}
({link(NETWORK)}).

## A fleet

Every replica is given {full} of what it held: the share of its slots at which the autoscaler adds an engine.

| listeners | engines (GPUs) | codec cores | gateway cores | between the stages | to callers |
|---:|---:|---:|---:|---:|---:|
{rows}

* engines = listeners / {FULL_AT:g} / {measured.streams_per_gpu}
* codec cores = listeners / {FULL_AT:g} / {measured.streams_per_codec_core:g}
* gateway cores = listeners / {FULL_AT:g} × {measured.gateway_core:g}
* between the stages = listeners × ({measured.engine_bytes:,} + {measured.codec_bytes:,}) bytes a second
* to callers = listeners × 48,000 bytes a second of 16-bit samples at 24 kHz, and more for what carries them

One replica more of each stage for a loss, and at least two of each. A million listeners want
{million.codec_cores:,} cores of codecs for {million.engines:,} GPUs, {ratio:.0f} cores a GPU: the codec is where to
save. No deployment of this size was tried. Its name server, gateways that each hold connections to thousands of
engines, and Kubernetes itself have limits of their own. Several deployments side by side, of some thousand listeners
each, avoid that question.

## A minute of speech

With G the price of a GPU for an hour, C that of a core for an hour and B that of a gigabyte to callers:

    cost of a minute = {one.gpu_hours:.3g} × G + {one.core_hours:.3g} × C + {one.gigabytes:.3g} × B

It holds for a fleet that is always {full} full. At a mean load of a share s of that, divide the first two by s.
`python -m bench.sizing --gpu-hour G --core-hour C --gigabyte B` calculates it. Storage, memory and traffic between
zones are not in it.

## Not measured

* the whole service on a GPU: engine, codec and gateway together
* the codec on a GPU, alone or beside an engine, by MIG or time-slicing
* the default form of the engine at this load, the published weights, and any GPU but the one above
* a gateway under thousands of streams; the bytes of Opus, MP3 and AAC to callers; the HTTP door's cores
* more than one engine on GPUs; conversations' share of reuse there
"""


def link(name: str) -> str:
    return f"[`{name}`](../bench/results/{name})"


def bits(per_second: float) -> str:
    """ "461 Gbit/s"."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6)):
        if per_second >= size:
            return f"{per_second / size:.3g} {unit}"
    return f"{per_second / 1e3:.3g} kbit/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: the command line when None"""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sizing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--listeners", type=int, help="the fleet for so many streams at the same moment")
    parser.add_argument("--gpu-hour", type=float, default=0.0, help="price of a GPU for an hour")
    parser.add_argument("--core-hour", type=float, default=0.0, help="price of a CPU core for an hour")
    parser.add_argument("--gigabyte", type=float, default=0.0, help="price of a gigabyte to callers")
    options = parser.parse_args(arguments)
    try:
        measured = Measured.read(options.results)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.write:
        PAGE.write_text(page(measured), encoding="utf-8")
    if options.listeners is not None:
        print(fleet(options.listeners, measured))
    if options.gpu_hour or options.core_hour or options.gigabyte:
        cost = minute(measured).cost(options.gpu_hour, options.core_hour, options.gigabyte)
        print(f"a minute of speech costs {cost:.3g}")
    if not (
        options.write or options.listeners is not None or options.gpu_hour or options.core_hour or options.gigabyte
    ):
        print(page(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
