"""Hours of ordinary use of four processes: gateway, engine, codec and HTTP door.

    python -m bench.soak --bundle build/bundles/tiny --minutes 60 --out bench/results/soak_tiny_cpu.json

Callers use the service in all ways that `uses.py` knows, one way after the other in a drawn order: streams, texts,
conversations, recordings, kept voices, searches for the mark, every format over HTTP, WebSockets, and callers that
leave, come too late or ask for nonsense. After each round all calls end, and each process is looked at: memory, open
files, threads, slots. The last line is one JSON object.

The exit code is 1 if an answer was wrong, or another one than the first time, a process ended, a log has a traceback, a
slot was not given back, or a process has grown: from the fourth round to the last by 4 MB allocated from the C library
or by 20,000 blocks of Python's objects (`counting.py`), by 8 open files or by 4 threads. Allocators keep freed blocks,
so a gateway's resident memory goes up and down by tens of MB; it may grow by 5 % and 64 MB. Of it, files and threads,
the least of the last three rounds is compared with that of the three behind the first. The engine runs with
`--constant-shape`, so that the size of a batch changes no sample.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import csm_client
import httpx
from websockets.exceptions import WebSocketException

from bench.deployment.command import deployment_parser, judged_run, left_behind, log_folder
from bench.deployment.counting import InUse
from bench.deployment.small import settled_slots, start_small
from bench.machine import result_head
from bench.soak.uses import TEXT, TIMEOUT_S, USES, Doors, WrongError
from tests.support.wav import wav_of

ROUNDS = 12
WARM_ROUNDS = 3  # after the first one; the last three rounds must not hold more than these
COUNTED_ROUNDS = (1 + WARM_ROUNDS, 8, ROUNDS)
CALLERS = 4  # as many as slots
MOST_WRONG = 20  # findings in the result
MOST_GROWTH = {"allocated_mb": 4.0, "python_blocks": 20_000, "rss_mb": 64.0, "files": 8, "threads": 4}
MOST_RSS_SHARE = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = deployment_parser("bench.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of use (default: %(default)s)")
    return judged_run(run, why_not_passed, parser.parse_args(arguments))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The result, which is the last line of the output."""
    head = result_head("soak", note=options.note, seed=options.seed, bundle=str(options.bundle))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(log_folder(options))
        stages = await start_small(stack, options.bundle, folder, ["--constant-shape"], http=True, counts=True)
        target = f"127.0.0.1:{stages['gateway'].api_port}"
        client = await stack.enter_async_context(csm_client.AsyncClient(target, timeout_s=TIMEOUT_S))
        said = await client.synthesize(TEXT, seed=0, max_seconds=4.0)
        recording = wav_of(said.samples, said.sample_rate_hz)
        unmarked = wav_of(random.Random(options.seed).randbytes(len(said.samples)), said.sample_rate_hz)
        users = Users(Doors(target, f"127.0.0.1:{stages['http'].api_port}", client, recording, unmarked))
        order = order_of(random.Random(options.seed))
        rows: list[dict[str, Any]] = []
        slots: dict[str, dict[str, float]] = {}
        began_s = time.monotonic()
        for number in range(1, ROUNDS + 1):
            until_s = began_s + options.minutes * 60 * number / ROUNDS
            await asyncio.gather(*(users.use(order, until_s) for _ in range(CALLERS)))
            slots = await settled_slots(stages)
            minutes = round((time.monotonic() - began_s) / 60, 1)
            for name, stage in stages.items():
                rows.append({"round": number, "minutes": minutes, "process": name} | stage.holds())
                if number in COUNTED_ROUNDS:
                    rows[-1] |= (await stage.in_use())._asdict()
            print(*rows[-len(stages) :], sep="\n", flush=True)
        return head | {
            "seconds": round(time.monotonic() - began_s),
            "calls": users.num_calls.total(),
            "calls_by_use": dict(sorted(users.num_calls.items())),
            "wrong": users.wrong[:MOST_WRONG],
            "wrong_calls": len(users.wrong),
            "ended": [name for name, stage in stages.items() if not stage.is_alive],
            "tracebacks": {name: stage.tracebacks() for name, stage in stages.items()},
            "slots": slots,
            "rows": rows,
        }


def order_of(drawn: random.Random) -> Iterator[str]:
    """All uses in random order, then again in another order, without end."""
    while True:
        yield from drawn.sample(list(USES), len(USES))


class Users:
    """Callers of the service, and what they found wrong."""

    def __init__(self, doors: Doors) -> None:
        self.num_calls: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._doors = doors
        self._expected: dict[str, str] = {}  # digest of the first answer, by use

    async def use(self, order: Iterator[str], until_s: float) -> None:
        """One caller. order: the uses, shared by all callers. until_s: on the monotonic clock."""
        while time.monotonic() < until_s:
            name = next(order)
            self.num_calls[name] += 1
            try:
                heard = await USES[name](self._doors)
            except (csm_client.CsmClientError, WrongError, httpx.HTTPError, WebSocketException, TimeoutError) as error:
                self._complain(f"{name}: {type(error).__name__}: {error}")
                continue
            if heard is not None and heard != self._expected.setdefault(name, heard):
                self._complain(f"{name}: another answer than the first time")

    def _complain(self, what: str) -> None:
        self.wrong.append(what)
        print(what, flush=True)


def why_not_passed(result: dict[str, Any]) -> list[str]:
    """The reasons why the run has not passed; none for a pass."""
    wrong = []
    if result["wrong_calls"]:
        wrong.append(f"{result['wrong_calls']} of {result['calls']} answers were wrong")
    if result["ended"]:
        wrong.append(f"processes ended: {result['ended']}")
    wrong += left_behind(result)
    for process in {row["process"]: None for row in result["rows"]}:
        later = [row for row in result["rows"] if row["process"] == process][1:]
        for what, growth in MOST_GROWTH.items():
            before, after = held_before_and_after(what, later)
            if after > before + (max(growth, before * MOST_RSS_SHARE) if what == "rss_mb" else growth):
                wrong.append(f"{what} of {process} grew from {before} to {after}")
    return wrong


def held_before_and_after(what: str, rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """rows: of one process, without its first round."""
    if what in InUse._fields:
        first, *_, last = [row[what] for row in rows if what in row]
        return first, last
    before, after = (min(row[what] for row in part) for part in (rows[:WARM_ROUNDS], rows[-WARM_ROUNDS:]))
    return before, after


if __name__ == "__main__":
    sys.exit(main())
