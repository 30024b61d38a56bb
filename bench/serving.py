"""Serving benchmark: open-loop Poisson load over gRPC on csm.v1 StreamSynthesize, with playback of every stream.

    python -m bench.serving --serve --bundle build/bundles/tiny --rates 0.2,0.5 --duration 30
    python -m bench.serving --target 127.0.0.1:50051 --rates 1,2,4 --max-audio-seconds 2:8 --context 4

Requests arrive as a Poisson process and do not wait for answers. Nothing is retried. Prints a table; the last line is
one JSON object, which `--out` writes to a file. With `--serve`, unknown options go to the server (`--slots 8`).

What the figures mean. Names and rules follow the methodology of nari-labs/benchmarks (docs/tts_bench/methodology.md)
where it has them, so that they compare with its reports; [V] is VoxServe (arXiv 2602.00269).

  time zero             just before the call is made; planning and connecting do not count
  ttfa_ms               until the first message with audio has come (there: "first playable")
  audible_ttfa_ms       until speech is played: the first of two 20 ms windows in a row at -45 dBFS,
                        by the playback clock ("audible TTFA"; figures published under that name compare with this one)
  end_to_end_ms         until status OK; complete streams only
  rtf                   end-to-end time over length of the audio, stream by stream ("per-request RTF")
  playback              starts when the first audio comes, or --jitter-buffer-ms later; goes on while there is audio
  underruns             times that playback ran out of audio; stalled_s is the sum of these silences
  underrun_rate         streams with an underrun, of all with audio
  streaming_viability   streams that were complete and without underrun, of all not refused ([V]'s word; it asks every
                        gap between two messages to be shorter than the later one's audio, we ask the playback clock)
  max_in_flight         most streams held at once, refused ones not counted ("peak in flight")
  refused               UNAVAILABLE before any audio; refused_after_ms is how long the caller waited for it
  failed                any other end but OK, and audio with a gap
  audio_s_per_s         audio received while requests were sent, over that time ("received audio xRT")
  messages_per_s        messages received in the same time: header, chunks, summary
  scheduling_lag_ms     sent later than planned: large values mean that this program, not the server, was too slow
  probe_ms              GetServerInfo, twice a second under load: shows how busy the server's event loop is
  server_*              the server's own view of the complete streams, from their summaries
  percentiles           nearest rank
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from csm.v1 import tts_pb2
from csm_client import AsyncClient
from csm_client.errors import CsmClientError

from bench.command import numbers, result_parser
from bench.deployment.run import run_program
from bench.listeners.conversations import prepare_conversations
from bench.listeners.load import Load, open_channel
from bench.listeners.own_server import own_server
from bench.listeners.summary import Row, summarize
from bench.listeners.workload import PROMPTS, AudioLength, PlannedRequest, plan
from bench.machine import cpu_name, gpu_name, result_head
from bench.report import write_result

LONGEST_RUN_S = 3600.0
HIGHEST_RATE = 1000.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    try:
        options, server_options = parse_arguments(arguments)
        result = run_program(benchmark(options, server_options))
    except (CsmClientError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_result(result, options.out)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(own options, options of the server that --serve starts). Exits the program for wrong ones."""
    parser = result_parser("bench.serving", __doc__)
    parser.allow_abbrev = False  # what it does not know is the server's
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--target", help="host:port of a running server")
    where.add_argument("--serve", action="store_true", help="start an all-in-one server for --bundle, and stop it")
    parser.add_argument("--bundle", default="", help="model bundle of the server that --serve starts")
    parser.add_argument("--server-log", type=Path, help="file for the log of that server")
    parser.add_argument("--allow-remote", action="store_true", help="load a server that is not on this machine")
    parser.add_argument("--rates", type=numbers, default=[0.5, 1.0, 2.0], help="requests a second, one run each")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds in which a run sends requests")
    parser.add_argument("--max-requests", type=int, default=2000, help="most requests of a run (default: %(default)s)")
    parser.add_argument(
        "--max-audio-seconds", type=AudioLength.parse, default=AudioLength(3, 3), help="of a request: S or MIN:MAX"
    )
    parser.add_argument("--context", type=int, default=0, help="turns of the conversation that a request continues")
    parser.add_argument("--conversations", type=int, default=4, help="how many there are to continue")
    parser.add_argument("--context-audio-seconds", type=float, default=2.0, help="most audio of a turn")
    parser.add_argument("--prompts", type=Path, help="file of texts, one a line, instead of the built-in ones")
    parser.add_argument("--jitter-buffer-ms", type=float, default=0.0, help="wait of a listener before playback")
    parser.add_argument("--warmup", type=int, default=2, help="requests before the first run, not counted")
    parser.add_argument("--deadline", type=float, default=60.0, help="of a request, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device-name", help="what the server runs on, for the JSON; found out with --serve")
    options, rest = parser.parse_known_args(arguments)
    if wrong := complaint(options, rest):
        parser.error(wrong)
    return options, rest


def complaint(options: argparse.Namespace, rest: Sequence[str]) -> str:
    """What is wrong with the options; "" if nothing is."""
    if rest and not options.serve:
        return f"unknown options: {' '.join(rest)}"
    if options.serve and not options.bundle:
        return "--serve needs --bundle"
    if options.target is not None and not options.allow_remote and not is_loopback(options.target):
        return f"--target is {options.target}, which is not on this machine; --allow-remote permits it"
    if not all(0 < rate <= HIGHEST_RATE for rate in options.rates):
        return f"--rates must be above 0 and at most {HIGHEST_RATE:g}"
    if not 0 < options.duration <= LONGEST_RUN_S:
        return f"--duration must be above 0 and at most {LONGEST_RUN_S:g} seconds"
    for rate, requests in planned_runs(options):
        if len(requests) > options.max_requests:
            return f"{rate:g} requests a second make {len(requests)} requests; --max-requests is {options.max_requests}"
    return ""


def is_loopback(target: str) -> bool:
    """Whether "host:port" is certainly on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def planned_runs(options: argparse.Namespace) -> list[tuple[float, list[PlannedRequest]]]:
    conversations = options.conversations if options.context else 0
    return [
        (rate, plan(rate, options.duration, options.seed, options.max_audio_seconds, conversations, prompts(options)))
        for rate in options.rates
    ]


def prompts(options: argparse.Namespace) -> Sequence[str]:
    if options.prompts is None:
        return PROMPTS
    return [line.strip() for line in options.prompts.read_text().splitlines() if line.strip()]


async def benchmark(options: argparse.Namespace, server_options: Sequence[str]) -> dict[str, Any]:
    """The result, which is the last line of the output."""
    if not options.serve:
        return await measure(options, options.target) | {"device": options.device_name or "not told (--device-name)"}
    device = options.device_name or device_of(server_options)
    async with own_server(options.bundle, server_options, options.server_log) as target:
        return await measure(options, target) | {"device": device, "server_options": list(server_options)}


def device_of(server_options: Sequence[str]) -> str:
    on_gpu = any("cuda" in option for option in server_options)
    return (gpu_name() if on_gpu else None) or cpu_name()


async def measure(options: argparse.Namespace, target: str) -> dict[str, Any]:
    async with open_channel(target) as channel:
        info = await AsyncClient("", timeout_s=options.deadline, channel=channel).server_info()
        await warm_up(channel, options)
        conversations = await prepare_conversations(
            channel,
            options.conversations if options.context else 0,
            options.context,
            options.context_audio_seconds,
            options.seed,
            options.deadline,
            prompts(options),
        )
        rows = []
        print_head()
        for rate, requests in planned_runs(options):
            record = await Load(channel, conversations, options.deadline).run(requests)
            rows.append(summarize(record, rate, options.duration, options.jitter_buffer_ms / 1000))
            print_row(rows[-1])
    return header(options, info) | {"rows": rows}


async def warm_up(channel: grpc.aio.Channel, options: argparse.Namespace) -> None:
    length = AudioLength(1, 1)
    requests = plan(10, 1 + options.warmup, options.seed, length, prompts=prompts(options))[: options.warmup]
    await Load(channel, deadline_s=options.deadline, probe_interval_s=0).run(requests)


def header(options: argparse.Namespace, info: tts_pb2.GetServerInfoResponse) -> dict[str, Any]:
    length: AudioLength = options.max_audio_seconds
    return result_head("serving", note=options.note) | {
        "model": info.model_version,
        "model_notice": info.model_notice,
        "generator": cpu_name(),
        "max_audio_s": [length.min_s, length.max_s],
        "context_turns": options.context,
        "context_audio_s": options.context_audio_seconds if options.context else 0,
        "conversations": options.conversations if options.context else 0,
        "jitter_buffer_ms": options.jitter_buffer_ms,
        "seed": options.seed,
    }


COLUMNS = (
    # heading, width, key, percentile
    ("req/s", 6, "rate", ""),
    ("sent", 5, "sent", ""),
    ("done", 5, "completed", ""),
    ("refused", 8, "refused", ""),
    ("failed", 7, "failed", ""),
    ("held", 5, "max_in_flight", ""),
    ("TTFA p50", 9, "ttfa_ms", "p50"),
    ("p95", 8, "ttfa_ms", "p95"),
    ("p99 ms", 8, "ttfa_ms", "p99"),
    ("aud. p95", 9, "audible_ttfa_ms", "p95"),
    ("e2e p95", 8, "end_to_end_ms", "p95"),
    ("RTF p50", 8, "rtf", "p50"),
    ("underrun", 9, "underrun_rate", ""),
    ("viable", 7, "streaming_viability", ""),
    ("audio s/s", 10, "audio_s_per_s", ""),
    ("msg/s", 7, "messages_per_s", ""),
    ("lag p95", 8, "scheduling_lag_ms", "p95"),
    ("probe p95", 10, "probe_ms", "p95"),
)


def print_head() -> None:
    print("".join(f"{heading:>{width}}" for heading, width, _, _ in COLUMNS), flush=True)


def print_row(row: Row) -> None:
    print("".join(f"{cell(row[key], percentile):>{width}}" for _, width, key, percentile in COLUMNS), flush=True)
    if row["errors"]:
        print(f"       errors: {row['errors']}", flush=True)


def cell(value: Any, percentile: str) -> str:
    if value is None:
        return "-"
    return f"{value[percentile] if percentile else value:g}"


if __name__ == "__main__":
    sys.exit(main())
