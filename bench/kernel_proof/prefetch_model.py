"""What prefetching saves, where a launch prefetches what later launches read: a model over a frame's launches.

Nothing of it is measured. It assumes the constants below, and: A launch ends without waiting for what it prefetches,
which stays in the L2 cache until it is read. Memory is a queue: it serves requests one after the other, and stops for
what a launch reads that was not prefetched, which is mostly in the cache. A launch still takes its class's whole
time beside its bytes. Bytes that were prefetched are read at the cache's bandwidth, and the launch does not end before
TAIL_US after the last of them came from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.kernel_proof.operations import Traffic
from bench.kernel_proof.pretended_gpu import Launch

CACHE_BYTES_PER_US = 5e6  # bandwidth of the L2 cache for all programs together: assumed
TAIL_US = 2.0  # from a launch's last bytes from memory to its end: assumed


def saved_us(
    launches: Sequence[Launch],
    traffic: Sequence[Traffic],
    beside_bytes_us: Callable[[str], float],
    bytes_per_us: float,
) -> float:
    """Microseconds that prefetching saves. traffic: of each launch. beside_bytes_us: the time of a launch beside its
    bytes, with the gap before it, by its name.
    """
    sources = [number for number, one in enumerate(traffic) if one.prefetched]
    if not sources:
        return 0.0
    wanted = {storage for one in traffic for storage in one.prefetched}
    last = max(number for number, one in enumerate(traffic) if wanted & one.touched.keys())
    clock = memory = without = 0.0  # until when launches and memory have run
    arrival: dict[int, tuple[float, int]] = {}  # by storage: when it is in the cache, and how much of it
    for launch, one in zip(launches[sources[0] : last + 1], traffic[sources[0] : last + 1], strict=True):
        beside = beside_bytes_us(launch.name)
        found = {storage: arrival.pop(storage) for storage in one.touched.keys() & arrival.keys()}
        cached = sum(min(size, one.touched[storage]) for storage, (_, size) in found.items())
        missed_us = (sum(one.touched.values()) - cached) / bytes_per_us
        memory = max(clock, memory) + missed_us
        there = max((when for when, _ in found.values()), default=0.0)
        without += beside + sum(one.touched.values()) / bytes_per_us
        clock = max(clock + beside + missed_us + cached / CACHE_BYTES_PER_US, there + TAIL_US)
        for storage, size in one.prefetched.items():
            memory = max(clock, memory) + size / bytes_per_us
            arrival[storage] = memory, size
    return without - clock
