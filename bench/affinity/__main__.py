"""Conversations find their engine: three engines behind two gateways, compared with one engine behind the same two.

    python -m bench.affinity --bundle build/bundles/tiny --out bench/results/affinity_tiny_cpu.json

Every stage is a process on loopback. The engines have one name, which a name server of this program resolves. The same
conversations (same words, same seeds) run with one engine and with three; turns alternate between the gateways. Prints
a line for each phase; the last line is one JSON object.

  reuse_share                     prompt positions that an engine had kept, of all; first four turns
  reuse_share_of_single_engine    that of three engines over that of one
  spread                          busiest engine's turns over the mean of all, less 1; first four turns
  failed                          turns that ended with an error, in all phases
  different_audio                 turns whose samples are not those of one engine, in all phases
  added.first_call_s              from the new address in the name server to the first call at the new engine
  added.moved, moved_elsewhere    conversations whose next turn ran at another engine than the last one: at the new
                                  engine, at another old one
  killed.moved, moved_elsewhere   likewise, when an engine is killed within a turn: those of the killed one, others
  killed.settled                  moved ones whose next turn ran where the last one did
  unnamed, scattered              reuse_share of other conversations: without ids, with another id for every turn
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from csm_client import AsyncClient

from bench.affinity.fleet import Fleet, calls
from bench.affinity.turns import Conversations, IdOf, TurnRecord, named, passes_by, scattered, unnamed
from bench.command import parser_of
from bench.deployment.process import StageProcess
from bench.deployment.run import run_program
from bench.listeners.load import open_channel
from bench.machine import result_head
from bench.report import write_result
from tests.support.network.name_server import NameServer, name_server

TURNS, LATER_TURNS = 4, 4  # later: one after an engine is added, one in which one is killed, two after
GATEWAYS = ["127.0.0.1", "127.0.0.2"]
ENGINES = {number: f"127.0.0.1{number}" for number in (1, 2, 3, 4)}
KILLED, ADDED = 2, 4
ADDED_TIMEOUT_S = 30.0
DEADLINE_S = 120.0
TTL_S = 30  # of an engine's address, as in Kubernetes; gRPC's resolver does not cache

Figures = dict[str, Any]
ROW = ("reuse_share", "spread", "first_call_s", "share", "moved", "moved_elsewhere", "settled")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = parser_of("bench.affinity", __doc__)
    parser.add_argument("--bundle", type=Path, default=Path("build/bundles/tiny"), help="voice of the stages")
    parser.add_argument("--conversations", type=int, default=60)
    parser.add_argument("--audio-seconds", type=float, default=0.64, help="longest audio of a turn")
    parser.add_argument("--base-port", type=int, default=50160, help="the first of six ports that are taken")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args(arguments)
    try:
        figures = run_program(measure(options))
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_result(figures, options.out)
    return 0 if not figures["failed"] else 1


async def measure(options: argparse.Namespace) -> Figures:
    head = result_head("affinity", conversations=options.conversations)
    with tempfile.TemporaryDirectory() as folder:  # all phases share a keyring, as the key changes the audio
        options.keyring = Path(folder, "keys.json")
        single = await one_engine(options)
        print(f"one engine: {single.figures}", flush=True)
        figures = await three_engines(options, single)
    share = figures["three_engines"]["reuse_share"] / single.figures["reuse_share"]
    told = head | {
        "reuse_share_of_single_engine": round(share, 4),
        "spread": figures["three_engines"]["spread"],
        "one_engine": single.figures,
    }
    phases = {"one_engine": single.figures} | {
        k: v for k, v in figures.items() if isinstance(v, dict) and k != "errors"
    }
    rows = [{"phase": name} | {key: phase.get(key) for key in ROW} for name, phase in phases.items()]
    return told | figures | {"rows": rows}


class Single:
    """The results with one engine, which the others are compared with."""

    def __init__(self, figures: Figures, records: Sequence[TurnRecord]) -> None:
        self.figures = figures
        self.digests = {(record.conversation, record.turn): record.digest for record in records}

    def num_different(self, records: Sequence[TurnRecord]) -> int:
        """The number of complete turns with different samples."""
        return sum(
            record.digest != self.digests[record.conversation, record.turn] for record in records if not record.error
        )


@asynccontextmanager
async def running(options: argparse.Namespace, engines: Sequence[int]) -> AsyncIterator[Running]:
    """Starts the fleet, with that many engines under the name."""
    with (
        tempfile.TemporaryDirectory() as folder,
        name_server([ENGINES[number] for number in engines], ttl_s=TTL_S) as names,
    ):
        async with Fleet(Path(folder), options.bundle, options.base_port) as fleet:
            here = Running(fleet, names, options)
            await asyncio.gather(fleet.start_codec(options.keyring), *(here.start_engine(number) for number in engines))
            targets = await fleet.start_gateways(GATEWAYS, names.target)
            channels = [open_channel(target) for target in targets]
            here.clients = [AsyncClient("", timeout_s=DEADLINE_S, resumes=0, channel=channel) for channel in channels]
            yield here
            for client in here.clients:
                await client.close()


class Running:
    """A running fleet."""

    def __init__(self, fleet: Fleet, names: NameServer, options: argparse.Namespace) -> None:
        self.fleet, self.names, self._options = fleet, names, options
        self.clients: list[AsyncClient] = []

    async def start_engine(self, number: int) -> StageProcess:
        """Engine options: the same bits in any batch, and all prefixes are kept."""
        engine_options = ["--slots", "4", "--max-waiting", "64", "--constant-shape", "--offload-bytes", str(2**30)]
        return await self.fleet.start_engine(number, ENGINES[number], engine_options)

    def conversations(self, name: str, id_of: IdOf) -> Conversations:
        return Conversations(name, self._options.conversations, self.clients, id_of, self._options.audio_seconds)

    def passing(self, name: str) -> Conversations:
        """Makes calls one after the other that belong to none of the conversations."""
        return Conversations(name, 1, self.clients, passes_by, 0.16, most_turns=0)

    def figures(self, records: Sequence[TurnRecord]) -> Figures:
        """The reuse and the number of turns by engine, for the completed turns."""
        calls = self.fleet.engine_of()
        ran = [calls[record.request_id] for record in records if record.request_id in calls]
        turns = Counter(name for name, _ in ran)
        mean = len(ran) / len(self.fleet.engines)
        return {
            "reuse_share": round(sum(c["reused_tokens"] for _, c in ran) / sum(c["prompt_tokens"] for _, c in ran), 4),
            "spread": round(max(turns.values()) / mean - 1, 4),
            "turns": dict(sorted(turns.items())),
        }

    def engine_by_conversation(self, records: Sequence[TurnRecord]) -> dict[int, str]:
        calls = self.fleet.engine_of()
        return {r.conversation: calls[r.request_id][0] for r in records if r.request_id in calls}


async def one_engine(options: argparse.Namespace) -> Single:
    async with running(options, [1]) as here:
        conversations = here.conversations("Talk", named)
        first = await conversations.go_on(TURNS)
        figures = here.figures(first) | {"failed": sum(bool(record.error) for record in first)}
        await conversations.go_on(LATER_TURNS)
        return Single(figures, conversations.records)


async def three_engines(options: argparse.Namespace, single: Single) -> Figures:
    async with running(options, list(ENGINES)[:3]) as here:
        conversations = here.conversations("Talk", named)
        told: Figures = {"three_engines": here.figures(await conversations.go_on(TURNS))}
        print(f"three engines: {told['three_engines']}", flush=True)
        others = []
        for name, id_of in (("unnamed", unnamed), ("scattered", scattered)):
            others.append(here.conversations(name, id_of))
            told[name] = here.figures(await others[-1].go_on(TURNS))
            print(f"{name}: {told[name]}", flush=True)
        told["added"] = await add_engine(here, conversations)
        print(f"an engine added: {told['added']}", flush=True)
        told["killed"] = await kill_engine(here, conversations)
        print(f"an engine killed: {told['killed']}", flush=True)
        records = [record for part in (conversations, *others) for record in part.records]
        errors = Counter(record.error for record in records if record.error)
        return told | {
            "failed": sum(errors.values()) + single.figures["failed"] + told["added"]["failed"],
            "errors": dict(errors),
            "different_audio": single.num_different(conversations.records),
        }


async def add_engine(here: Running, conversations: Conversations) -> Figures:
    """Adds an engine, which first gets calls that belong to none of the conversations."""
    before = here.engine_by_conversation([r for r in conversations.records if r.turn == TURNS - 1])
    process = await here.start_engine(ADDED)
    run = uuid.uuid4().hex
    passing = [here.passing(f"{run}-{number}") for number in range(6)]
    traffic = [asyncio.create_task(_for_ever(each)) for each in passing]
    await asyncio.sleep(2)
    here.names.addresses.append(ENGINES[ADDED])
    added_s = time.monotonic()
    while (first := next(calls(process), None)) is None and time.monotonic() - added_s < ADDED_TIMEOUT_S:
        await asyncio.sleep(0.05)
    first_call_s = time.monotonic() - added_s - (first["duration_ms"] / 1000 if first else 0.0)
    await asyncio.sleep(max(0.0, 6 - first_call_s))  # until both channels of both gateways know it
    for task in traffic:
        task.cancel()
    await asyncio.gather(*traffic, return_exceptions=True)
    after = here.engine_by_conversation(await conversations.go_on(1))
    moved = [name for conversation, name in after.items() if name != before[conversation]]
    return {
        "first_call_s": round(first_call_s, 2),
        "failed": sum(bool(record.error) for each in passing for record in each.records),
        "share": round(1 / len(here.fleet.engines), 4),
        "moved": moved.count(process.name),
        "moved_share": round(moved.count(process.name) / len(after), 4),
        "moved_elsewhere": len(moved) - moved.count(process.name),
    }


async def kill_engine(here: Running, conversations: Conversations) -> Figures:
    """Kills one engine when a third of the turns are done. The name server keeps its address for a while."""
    before = here.engine_by_conversation([r for r in conversations.records if r.turn == TURNS])
    third, killed, killing = conversations.count // 3, here.fleet.engines[KILLED], list[asyncio.Task[None]]()

    def on_turn(done: int) -> None:
        if done == third:
            killing.append(asyncio.create_task(killed.kill()))

    await conversations.go_on(1, on_turn)
    await asyncio.gather(*killing)
    here.names.addresses.remove(ENGINES[KILLED])
    first = here.engine_by_conversation(await conversations.go_on(1))
    second = here.engine_by_conversation(await conversations.go_on(1))
    moved = [conversation for conversation, name in first.items() if name != before[conversation]]
    of_killed = [conversation for conversation in moved if before[conversation] == killed.name]
    return {
        "had": list(before.values()).count(killed.name),
        "moved": len(of_killed),
        "moved_elsewhere": len(moved) - len(of_killed),
        "settled": sum(second[conversation] == first[conversation] for conversation in of_killed),
        "reuse_share_after": here.figures([r for r in conversations.records if r.turn == TURNS + 3])["reuse_share"],
    }


async def _for_ever(conversations: Conversations) -> None:
    while True:
        await conversations.go_on(1)


if __name__ == "__main__":
    sys.exit(main())
