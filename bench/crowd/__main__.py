"""Hundreds of callers that are slow or idle, and how two ordinary listeners and the processes fare meanwhile.

    python -m bench.crowd --callers 300 --out bench/results/crowd_cpu.json

The gateway and the HTTP door are real processes; a fake engine and a fake codec make audio as fast as it is played. Two
listeners play one stream after the other: first alone, then while the callers of `callers.py`, equally many of each
kind, hold what they have opened, and then alone again. Both processes are sampled every second. The three parts are
rows, with the median and the maximum of each figure; `ends` has how the callers ended, and when the last of each kind
saw its end. Callers that read nothing see their end only when they read, HOLD_S later; `streams_ended_s` is when the
gateway had ended all streams but the listeners'.

The exit code is 1 if a caller was not ended, a listener's stream failed or stalled for more than 2 s, a process ended,
or a log has a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import csm_client

from bench.command import result_parser
from bench.crowd.callers import KINDS, Doors
from bench.deployment.command import judged_run, left_behind, log_folder
from bench.deployment.process import StageProcess, call_options
from bench.deployment.program import printed_ports, program
from bench.listeners.playback import Arrival, play
from bench.machine import result_head

LISTENERS = 2
HEARD_S = 6.0  # length of a listener's stream
ALONE_S = 30.0
MOST_CROWD_S = 420.0
MOST_STALLED_S = 2.0
BATCH_FRAMES = 4  # in a message of the engine
WEBSOCKET_IDLE_S = 60  # of the door; its own default takes five minutes


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = result_parser("bench.crowd", __doc__)
    parser.add_argument("--callers", type=int, default=300, help="in all (default: %(default)s)")
    parser.add_argument("--logs", type=Path, help="folder for the processes' logs; nowhere when not given")
    return judged_run(run, why_not_passed, parser.parse_args(arguments))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The result, which is the last line of the output."""
    head = result_head("crowd", note=options.note, callers=options.callers)
    async with AsyncExitStack() as stack:
        stages = await start(stack, stack.enter_context(log_folder(options)))
        doors = Doors(stages["gateway"].api_port, stages["http"].api_port)
        client = csm_client.AsyncClient(f"127.0.0.1:{doors.gateway_port}", timeout_s=120.0)
        ordinary = Ordinary(await stack.enter_async_context(client))
        rows = [await ordinary.part("before", stages, asyncio.sleep(ALONE_S))]
        crowd = Crowd(doors, options.callers)
        streams = asyncio.create_task(streams_ended_s(stages["gateway"], crowd))
        rows.append(await ordinary.part("crowd", stages, crowd.run()))
        rows.append(await ordinary.part("after", stages, asyncio.sleep(ALONE_S)))
        ended_s = streams.result() if streams.done() else None
        streams.cancel()
        return head | {
            "load_average": round(os.getloadavg()[1], 1),
            "ends": crowd.ends,
            "not_ended": crowd.not_ended,
            "streams_ended_s": ended_s,
            "ended": [name for name, stage in stages.items() if not stage.is_alive],
            "tracebacks": {name: stage.tracebacks() for name, stage in stages.items()},
            "slots": {},
            "rows": rows,
        }


async def start(stack: AsyncExitStack, folder: Path) -> dict[str, StageProcess]:
    """Starts the gateway and the door, which end with `stack`. Returns them when they are ready."""
    behind = await stack.enter_async_context(program("bench.gateway.stand_ins", str(BATCH_FRAMES)))
    options = ["--code-sealing", "open", "--voices-database", "", "--stage-silence-seconds", "60"]
    for stage in ("engine", "codec"):
        port, health_port = await printed_ports(behind)
        options += call_options(stage, f"127.0.0.1:{port}", f"127.0.0.1:{health_port}")
    gateway = await stack.enter_async_context(StageProcess("gateway", 0, options, folder).running())
    options = [*gateway.call_options, "--websocket-idle-seconds", str(WEBSOCKET_IDLE_S)]
    door = await stack.enter_async_context(StageProcess("http", 0, options, folder).running())
    for process in (gateway, door):
        await process.wait_ready()
    return {"gateway": gateway, "http": door}


class Crowd:
    """The callers, and how they ended."""

    def __init__(self, doors: Doors, count: int) -> None:
        self._doors, self._count = doors, count
        self.ends: dict[str, dict[str, Any]] = {}
        self.not_ended = 0
        self.began_s = 0.0

    async def run(self) -> None:
        self.began_s = time.monotonic()
        kinds = itertools.islice(itertools.cycle(KINDS), self._count)
        calls = [asyncio.create_task(self._one(kind)) for kind in kinds]
        _, running = await asyncio.wait(calls, timeout=MOST_CROWD_S)
        self.not_ended = len(running)
        for call in running:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _one(self, kind: str) -> None:
        try:
            how = await KINDS[kind](self._doors)
        except Exception as error:
            how = f"{type(error).__name__}: {error}"[:200]
        ends = self.ends.setdefault(kind, {"how": Counter(), "last_s": 0.0})
        ends["how"][how] += 1
        ends["last_s"] = round(time.monotonic() - self.began_s, 1)


async def streams_ended_s(gateway: StageProcess, crowd: Crowd) -> float:
    """When no synthesis ran but those of the listeners."""
    while not crowd.began_s or time.monotonic() < crowd.began_s + 5.0:
        await asyncio.sleep(0.1)
    while (await gateway.gauges("tts_running_requests"))["tts_running_requests"] > LISTENERS:
        await asyncio.sleep(0.5)
    return round(time.monotonic() - crowd.began_s, 1)


class Ordinary:
    """Listeners that read their streams without delay."""

    def __init__(self, client: csm_client.AsyncClient) -> None:
        self._client = client

    async def part(self, name: str, stages: dict[str, StageProcess], during: Any) -> dict[str, Any]:
        """What the listeners heard while that went on, and what the processes held at most."""
        over = asyncio.Event()
        listening = [asyncio.create_task(self._listen(number, over)) for number in range(LISTENERS)]
        watching = asyncio.create_task(_most_held(stages, over))
        began_s = time.monotonic()
        await during
        over.set()
        heard = [each for listener in await asyncio.gather(*listening) for each in listener]
        whole = [each for each in heard if "failed" not in each]
        return {
            "part": name,
            "seconds": round(time.monotonic() - began_s, 1),
            "streams": len(heard),
            "failed": [each["failed"] for each in heard if "failed" in each],
            "first_audio_s": _middle_and_most([each["first_audio_s"] for each in whole]),
            "stalled_s": _middle_and_most([each["stalled_s"] for each in whole]),
            "held": await watching,
        }

    async def _listen(self, number: int, over: asyncio.Event) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        while not over.is_set():
            asked_s = time.monotonic()
            arrivals: list[Arrival] = []
            try:
                async with self._client.stream_synthesize("Good morning.", seed=number, max_seconds=HEARD_S) as stream:
                    async for chunk in stream:
                        rate_hz = stream.header.audio_format.sample_rate_hertz
                        arrivals.append(Arrival(time.monotonic(), chunk.sample_count / rate_hz))
            except csm_client.CsmClientError as error:
                heard.append({"failed": str(error)})
                await asyncio.sleep(1.0)
                continue
            played = play(arrivals)
            assert played is not None
            heard.append({"first_audio_s": played.started_at_s - asked_s, "stalled_s": played.stalled_s})
            await asyncio.sleep(max(0.0, played.started_at_s + played.audio_s - time.monotonic()))  # until it is played
        return heard


async def _most_held(stages: dict[str, StageProcess], over: asyncio.Event) -> dict[str, dict[str, float]]:
    most: dict[str, dict[str, float]] = {name: {} for name in stages}
    while not over.is_set():
        for name, stage in stages.items():
            for what, value in stage.holds().items():
                most[name][what] = max(most[name].get(what, 0.0), value)
        await asyncio.sleep(1.0)
    return most


def _middle_and_most(values: Sequence[float]) -> list[float]:
    return [round(sorted(values)[len(values) // 2], 3), round(max(values), 3)] if values else []


def why_not_passed(result: dict[str, Any]) -> list[str]:
    """The reasons why the run has not passed; none for a pass."""
    wrong = []
    if result["not_ended"]:
        wrong.append(f"{result['not_ended']} callers were not ended")
    if result["ended"]:
        wrong.append(f"processes ended: {result['ended']}")
    for row in result["rows"]:
        if row["failed"]:
            wrong.append(f"streams of listeners failed: {row['failed'][:3]}")
        if row["stalled_s"] and row["stalled_s"][1] > MOST_STALLED_S:
            wrong.append(f"a listener's stream ran dry for {row['stalled_s'][1]} s")
    return wrong + left_behind(result)


if __name__ == "__main__":
    sys.exit(main())
