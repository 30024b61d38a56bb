"""CPU time of the slot pool for one sequence, and of a scan over all prefixes that makes the same choices.

    python -m bench.slot_pool
    python -m bench.slot_pool --slots 1024 --rounds 200 --cold

Half of the slots are held, half keep what was said. Prompts: `fresh` have nothing in common; `voice` begin with one of
four voices of 150 rows; `talk` go on with what a slot keeps. Both pools take the same sequences, one pool after the
other, and leases that are not equal are an error. --cold: before each call, 16 MB are written, so that nothing of the
pool is left in the processor's caches. The last line is one JSON object: microseconds of process time, the medians,
and their ratio.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.command import parser_of
from bench.slot_pool.reference import ScanningOffloadIndex, ScanningSlotPool
from csm_engine.kv.offload_index import OffloadIndex
from csm_engine.kv.slot_pool import Lease, SlotPool
from csm_engine.model.prompt import Rows

CODEBOOKS, CODES, TEXT, VOICE, FRAMES = 32, 2051, 40, 150, 125
CALLS = ("acquire", "filled", "release")
KINDS = ("fresh", "voice", "talk")


def main() -> None:
    parser = parser_of("bench.slot_pool", __doc__)
    parser.add_argument("--slots", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--offload", type=int, default=0, help="positions that host memory holds")
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    told = {kind: compared(kind, **vars(arguments)) for kind in KINDS}
    for kind, of_kind in told.items():
        print(f"{kind:>6}  " + "  ".join(f"{name} {value:>7}" for name, value in of_kind.items()))
    print(json.dumps(vars(arguments) | {"us": told}))


def compared(kind: str, *, slots: int, rounds: int, offload: int, cold: bool) -> dict[str, float]:
    """Raises: AssertionError if the pools choose otherwise."""
    scanning = ScanningSlotPool(slots, offload_index=ScanningOffloadIndex(offload, 1))
    leases, scan = played(scanning, kind, slots, rounds, cold)
    others, now = played(SlotPool(slots, offload_index=OffloadIndex(offload, 1)), kind, slots, rounds, cold)
    assert leases == others, kind
    of_calls = {f"{call}, {side}": us[call] for call in CALLS for side, us in (("scan", scan), ("now", now))}
    ratios = {"acquire, ratio": scan["acquire"] / now["acquire"], "all, ratio": sum(scan.values()) / sum(now.values())}
    return {name: round(value, 1) for name, value in (of_calls | ratios).items()}


def played(pool: Any, kind: str, slots: int, rounds: int, cold: bool) -> tuple[list[Lease], dict[str, float]]:
    """The leases, and microseconds of each call: the median over the rounds after all slots have been used."""
    generator = np.random.default_rng(0)
    voices = [codes(generator, VOICE) for _ in range(4)]
    others_memory = np.zeros(2**24, np.uint8)
    leases: list[Lease] = []
    held: list[tuple[int, Rows]] = []
    said: list[Rows] = []
    spent: dict[str, list[float]] = {call: [] for call in CALLS}

    def timed(call: str, function: Callable[..., Any], *given: object) -> Any:
        if cold and len(leases) >= slots:
            others_memory.fill(len(leases) % 256)
        began = time.process_time_ns()
        result = function(*given)
        spent[call].append((time.process_time_ns() - began) / 1000)
        return result

    for number in range(slots + rounds):
        begun = voices[number % len(voices)] if kind == "voice" else codes(generator, VOICE)
        if kind == "talk" and number >= slots:
            begun = said.pop(int(generator.integers(len(said))))
        prompt = np.concatenate([begun, text(generator)])
        leases.append(timed("acquire", pool.acquire, prompt))
        timed("filled", pool.filled, leases[-1].slot, prompt)
        held.append((leases[-1].slot, np.concatenate([prompt, codes(generator, FRAMES)])))
        if len(held) > slots // 2:
            slot, rows = held.pop(0)
            timed("release", pool.release, slot, rows)
            said = [*said, rows][-slots // 4 :]
    return leases, {call: statistics.median(times[-rounds:]) for call, times in spent.items()}


def codes(generator: np.random.Generator, length: int) -> Rows:
    rows = generator.integers(0, CODES, (length, CODEBOOKS + 1)).astype(np.int32)
    rows[:, -1] = -1
    return rows


def text(generator: np.random.Generator) -> Rows:
    rows = np.full((TEXT, CODEBOOKS + 1), -1, np.int32)
    rows[:, -1] = generator.integers(0, 128_000, TEXT)
    return rows


if __name__ == "__main__":
    main()
