"""Faults under running streams: two gateways, two engines, two codecs, each a process of its own.

    python -m bench.chaos --bundle build/bundles/tiny --faults 100 --out bench/results/chaos_tiny_cpu.json

Streams and texts with fixed seeds run undisturbed first. Then they run again and again while faults strike: kill -9,
SIGSTOP, restarts, connections that are cut, black-holed, slow or corrupted, full replicas, slow and stalled readers.
Of each stage one replica is struck at a time. Every stream must end OK with the same samples as undisturbed, or be
refused before its first sample. The last line is one JSON object. The exit code is 1 if a stream failed or differed,
a slot was not given back, a log has a traceback, or, without a crowd, more than half of the streams were refused.

Streams and texts take both gateways in turn, and go on at the other one when theirs is lost. Bytes are corrupted
between gateways and stages, which speak TLS.
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
from bench.chaos.listeners import STREAM_ITEMS, TEXT_ITEMS, Listeners
from bench.chaos.result import result_of, why_not_passed
from bench.deployment.command import log_folder, parser_of, tell
from bench.deployment.run import run_program
from bench.machine import commit

LONGEST_S = 1800.0  # of the disturbed run
SETTLE_S = 120.0  # until every slot must be free
READERS = (("fast",), ("fast", "slow"), ("fast", "stalled", "fast"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: the command line when None"""
    parser = parser_of("python -m bench.chaos", __doc__)
    parser.add_argument("--faults", type=int, default=100, help="at least so many (default: %(default)s)")
    parser.add_argument("--crowd", type=int, default=0, help="more callers than there is room for; most are refused")
    parser.add_argument("--most-seconds", type=float, default=LONGEST_S, help="of the disturbed run")
    options = parser.parse_args(arguments)
    result = run_program(run(options))
    return tell(result, why_not_passed(result), options)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The object of the last line."""
    with log_folder(options) as folder:
        async with running_cluster(options.bundle, folder, options.seed) as cluster:
            listeners = Listeners(cluster.gateway_target)
            try:
                return await disturb(options, cluster, listeners)
            finally:
                await listeners.close()


async def disturb(options: argparse.Namespace, cluster: Cluster, listeners: Listeners) -> dict[str, Any]:
    measured = commit()  # before somebody changes the checkout
    await listeners.hear_undisturbed()
    print("undisturbed run done", flush=True)
    rss_before, slots_before = cluster.rss_mb(), await cluster.slots()
    saboteurs = [Saboteur(cluster, stage, options.seed) for stage in cluster.replicas]
    until_s = time.monotonic() + options.most_seconds

    def num_faults() -> int:
        return sum(len(saboteur.struck) for saboteur in saboteurs) + listeners.reader_faults.total()

    def goes_on() -> bool:
        return num_faults() < options.faults and time.monotonic() < until_s

    async with asyncio.TaskGroup() as group:  # no saboteur starts a stage again once another task has failed
        for saboteur in saboteurs:
            group.create_task(saboteur.run(goes_on))
        for readers in (*READERS, *itertools.islice(itertools.cycle(READERS), options.crowd)):
            group.create_task(listeners.listen(STREAM_ITEMS, lambda: not goes_on(), readers))
        group.create_task(listeners.listen(TEXT_ITEMS, lambda: not goes_on(), ("fast", "stalled")))
    await settle(cluster)
    return result_of(
        struck=[struck for saboteur in saboteurs for struck in saboteur.struck],
        listeners=listeners,
        rss_mb=(rss_before, cluster.rss_mb()),
        slots=(slots_before, await cluster.slots()),
        tracebacks={replica.process.name: replica.process.tracebacks() for replica in cluster.all},
        seed=options.seed,
        crowd=options.crowd,
        commit=measured,
        note=options.note,
    )


async def settle(cluster: Cluster) -> None:
    """Waits until no slot is taken, at most SETTLE_S."""
    until_s = time.monotonic() + SETTLE_S
    while any((await cluster.slots()).values()) and time.monotonic() < until_s:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
