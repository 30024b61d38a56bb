"""Faults under running streams: two gateways, two engines, two codecs, each a process of its own.

    python -m bench.chaos --bundle build/bundles/tiny --faults 100 --out bench/results/chaos_tiny_cpu.json

Streams and texts with fixed seeds run undisturbed first. Then they run again and again while faults strike: kill -9,
SIGSTOP, restarts, connections that are cut, black-holed, slow or corrupted, full replicas, slow and stalled readers.
One replica of each stage is struck at a time. Every stream must end OK with the same samples as in the undisturbed run,
or be refused before its first sample. The last line is one JSON object. The exit code is 1 if a stream failed or
differed, the undisturbed audio has no watermark, a slot was not released, a log has a traceback, or, without a crowd,
more than half of the streams were refused.

With --sentences all items are texts of that many sentences, whole and in pieces; with --door also over HTTP. A sentence
has at most 2 s, so that all of them are spoken even by a voice that finds no end. --strike names the stages that faults
strike; --door needs `--strike engine codec`, as the door retries a lost call only three times.

Streams and texts use both gateways in turn, and go on at the other one when theirs is lost. Bytes are corrupted only
between gateways and stages, which use TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.chaos.cluster import Cluster, running_cluster
from bench.chaos.faults import Saboteur
from bench.chaos.items import SENTENCE_S, STREAM_ITEMS, TEXT_ITEMS, Item, long_items
from bench.chaos.listeners import Listeners
from bench.chaos.result import result_of, why_not_passed
from bench.deployment.command import deployment_parser, judged_run, log_folder
from bench.machine import result_head

LONGEST_S = 1800.0  # of the disturbed run
SETTLE_S = 120.0  # after which every slot must be free
STAGES = ("engine", "codec", "gateway")
READERS = (("fast",), ("fast", "slow"), ("fast", "stalled", "fast"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = deployment_parser("bench.chaos", __doc__)
    parser.add_argument("--faults", type=int, default=100, help="at least so many (default: %(default)s)")
    parser.add_argument("--crowd", type=int, default=0, help="more callers than there is room for; most are refused")
    parser.add_argument("--most-seconds", type=float, default=LONGEST_S, help="of the disturbed run")
    parser.add_argument("--sentences", type=int, default=0, help="of long texts, in place of streams and short texts")
    parser.add_argument("--door", action="store_true", help="long texts over HTTP too; --sentences is needed")
    parser.add_argument("--strike", nargs="+", choices=STAGES, default=STAGES, help="stages (default: all)")
    options = parser.parse_args(arguments)
    if options.door and not options.sentences:
        parser.error("--door needs --sentences")
    return judged_run(run, why_not_passed, options)


def load_of(options: argparse.Namespace) -> list[tuple[list[Item], tuple[str, ...]]]:
    """For each listener, its items and its kinds of reading."""
    if options.sentences:
        items = long_items(options.sentences, ("stream", "text", *(("door",) if options.door else ())))
        load = [([item], readers) for item, readers in zip(items, itertools.cycle(READERS), strict=False)]
        return load + [([*items[1:], items[0]], ("fast",))]
    return [*((STREAM_ITEMS, readers) for readers in READERS), (TEXT_ITEMS, ("fast", "stalled"))]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The result, which is the last line of the output."""
    sentence_s = SENTENCE_S if options.sentences else None
    load = load_of(options)
    with log_folder(options) as folder:
        async with running_cluster(
            options.bundle, folder, options.seed, sentence_s=sentence_s, door=options.door
        ) as cluster:
            items = list(dict.fromkeys(item for asked, _ in load for item in asked))
            door = f"http://127.0.0.1:{cluster.door.api_port}" if cluster.door else ""
            listeners = Listeners(cluster.gateway_target, items, door)
            try:
                return await disturb(options, cluster, listeners, load)
            finally:
                await listeners.close()


async def disturb(
    options: argparse.Namespace,
    cluster: Cluster,
    listeners: Listeners,
    load: Sequence[tuple[list[Item], tuple[str, ...]]],
) -> dict[str, Any]:
    head = result_head("chaos", note=options.note, seed=options.seed, crowd=options.crowd, sentences=options.sentences)
    await listeners.run_undisturbed()
    print("undisturbed run done", flush=True)
    rss_before, slots_before = cluster.rss_mb(), await cluster.slots()
    saboteurs = [Saboteur(cluster, stage, options.seed) for stage in options.strike]
    until_s = time.monotonic() + options.most_seconds

    def num_faults() -> int:
        return sum(len(saboteur.struck) for saboteur in saboteurs) + listeners.reader_faults.total()

    def goes_on() -> bool:
        return num_faults() < options.faults and time.monotonic() < until_s

    crowd = [(load[0][0], readers) for readers in itertools.islice(itertools.cycle(READERS), options.crowd)]
    async with asyncio.TaskGroup() as group:  # when a task fails, no saboteur starts a stage again
        for saboteur in saboteurs:
            group.create_task(saboteur.run(goes_on))
        for items, readers in (*load, *crowd):
            group.create_task(listeners.listen(items, lambda: not goes_on(), readers))
    await settle(cluster)
    return head | result_of(
        struck=[struck for saboteur in saboteurs for struck in saboteur.struck],
        listeners=listeners,
        rss_mb=(rss_before, cluster.rss_mb()),
        slots=(slots_before, await cluster.slots()),
        tracebacks=cluster.tracebacks(),
    )


async def settle(cluster: Cluster) -> None:
    """Waits until no slot is taken, at most SETTLE_S."""
    until_s = time.monotonic() + SETTLE_S
    while any((await cluster.slots()).values()) and time.monotonic() < until_s:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
