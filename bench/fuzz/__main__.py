"""Malformed requests on all ports and methods of a gateway, an engine and a codec, each a process of its own.

    python -m bench.fuzz --bundle build/bundles/tiny --requests 10000 --out bench/results/fuzz_tiny_cpu.json

Hypothesis draws the requests: messages that the protos' descriptors allow, valid requests with wrong fields, damaged
bytes and bytes that were never a message, in streams of several messages, with metadata, short deadlines and callers
that leave. Some connections carry no HTTP/2 at all, HTTP/2 with broken frames, or a call whose metadata is not ASCII,
which gRPC's clients refuse to send. The last line is one JSON object. The exit code is 1 if a process ended, a call
ended with INTERNAL, UNKNOWN or DATA_LOSS, a log has a traceback, a slot was not given back, a stage no longer answers,
or memory grew by more than 10 % and 32 MB after the first fifth.

The memory that is compared is the memory in use: the allocator gives large freed blocks back at once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import csm_client
import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench.deployment.command import deployment_parser, judged_run, left_behind, log_folder
from bench.deployment.process import StageProcess
from bench.deployment.small import settled_slots, start_small
from bench.fuzz.caller import Caller
from bench.fuzz.methods import methods, valid_requests
from bench.fuzz.raw_calls import PREFACE
from bench.fuzz.strategies import Call, RawCall, calls, raw_calls
from bench.machine import result_head

WARM_SHARE = 0.2  # of the requests; after them memory may grow by MOST_GROWTH or MOST_GROWTH_MB
MOST_GROWTH, MOST_GROWTH_MB = 0.10, 32.0
RAW_EVERY = 12  # about one request in 12 is a connection of raw bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = deployment_parser("bench.fuzz", __doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="at least so many (default: %(default)s)")
    return judged_run(run, why_not_passed, parser.parse_args(arguments))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The result, which is the last line of the output."""
    head = result_head("fuzz", note=options.note, seed=options.seed)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(log_folder(options))
        stages = await start_small(stack, options.bundle, folder)
        ports = {
            f"{name} {kind}": getattr(stage, f"{kind}_port")
            for name, stage in stages.items()
            for kind in ("api", "health", "metrics")
        }
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stages['codec'].api_port}") as channel:
            codec = await codec_pb2_grpc.CodecServiceStub(channel).GetCodecInfo(codec_pb2.GetCodecInfoRequest())
        began_s = time.monotonic()
        caller = Caller(ports)
        try:
            first = round(options.requests * WARM_SHARE)
            await asyncio.to_thread(fuzz, caller, codec.codec, first, options.seed)
            warm = {name: stage.rss_mb() for name, stage in stages.items()}
            await asyncio.to_thread(fuzz, caller, codec.codec, options.requests - first, options.seed + 1)
        finally:
            caller.close()
        seconds = time.monotonic() - began_s
        slots = await settled_slots(stages)
        return head | {
            "requests": caller.tally.by_port.total(),
            "seconds": round(seconds),
            "codes": dict(caller.tally.codes.most_common()),
            "never_allowed": caller.tally.num_findings,
            "findings": caller.tally.findings,
            "crashed": [name for name, stage in stages.items() if not stage.is_alive],
            "answers": await answers(stages["gateway"]),
            "tracebacks": {name: stage.tracebacks() for name, stage in stages.items()},
            "slots": slots,
            "rss_mb": {"warm": warm, "after": {name: stage.rss_mb() for name, stage in stages.items()}},
            "rows": [{"port": port, "requests": count} for port, count in sorted(caller.tally.by_port.items())],
        }


def fuzz(caller: Caller, codec: Any, num_requests: int, from_seed: int) -> None:
    """Makes at least that many requests."""
    drawn = calls(methods(), valid_requests(codec))
    connections = st.one_of(st.tuples(st.sampled_from(sorted(caller.ports)), _raw_bytes()), raw_calls(methods()))
    until = caller.num_made + num_requests

    @seed(from_seed)
    @settings(
        max_examples=10**9,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn, st.integers(0, RAW_EVERY).flatmap(lambda drawn: connections if drawn == RAW_EVERY else st.none()))
    def one(call: Call, connection: tuple[str, bytes] | RawCall | None) -> None:
        if caller.num_made >= until or caller.broken is not None:
            raise _EnoughError
        if connection is None:
            caller.call(call)
        elif isinstance(connection, RawCall):
            caller.call_by_hand(connection)
        else:
            caller.connect(*connection)

    with suppress(_EnoughError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a long representation of the last example
        one()
    caller.wait()
    if caller.broken is not None:
        raise caller.broken


class _EnoughError(Exception):
    """All requests were made."""


def _raw_bytes() -> st.SearchStrategy[bytes]:
    frame = st.builds(
        lambda size, kind, flags, stream, body: size.to_bytes(3, "big") + bytes([kind, flags]) + stream + body,
        st.one_of(st.integers(0, 64), st.just(2**24 - 1)),
        st.integers(0, 12),
        st.integers(0, 255),
        st.binary(min_size=4, max_size=4),
        st.binary(max_size=64),
    )
    frames = st.lists(frame, max_size=4).map(lambda made: PREFACE + bytes(9)[:3] + b"\x04" + bytes(5) + b"".join(made))
    return st.one_of(
        st.binary(max_size=300),
        frames,
        st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", PREFACE, PREFACE[:7]]),
    )


async def answers(gateway: StageProcess) -> bool:
    """Whether the service still makes speech."""
    async with csm_client.AsyncClient(f"127.0.0.1:{gateway.api_port}", timeout_s=60) as client:
        try:
            return bool((await client.synthesize("Hello.", max_seconds=0.4)).samples)
        except csm_client.CsmClientError:
            return False


def why_not_passed(result: dict[str, Any]) -> list[str]:
    """The reasons why the run has not passed; none for a pass."""
    wrong = []
    if result["crashed"] or not result["answers"]:
        wrong.append(f"crashed: {result['crashed']}, answers: {result['answers']}")
    if result["never_allowed"]:
        wrong.append(f"{result['never_allowed']} calls ended with INTERNAL, UNKNOWN or DATA_LOSS")
    wrong += left_behind(result)
    for name, before in result["rss_mb"]["warm"].items():
        after = result["rss_mb"]["after"][name]
        if after > before * (1 + MOST_GROWTH) and after > before + MOST_GROWTH_MB:
            wrong.append(f"the {name} grew from {before} to {after} MB")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
