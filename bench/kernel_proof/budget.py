"""What a frame and its kernels may cost: the numbers that a change must not raise unseen, and may lower.

Pure: it compares what was counted and compiled with the tables below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.kernel_proof.machine_code import MachineCode

# Device operations of one frame at csm-1b's shapes, at most: form -> batch -> operations. A vendor's library adds one
# where it splits a product's sum: an H100's profile has 1,468 for plain at batch 1.
OPERATIONS: Mapping[str, Mapping[int, int]] = {
    "plain": {1: 1323, 64: 1323, 256: 1323, 1024: 1323},
    "fused": {1: 891, 64: 891, 256: 1323, 1024: 1323},
    "float8": {1: 891, 64: 891, 256: 3915, 1024: 3915},
    "int8": {1: 891, 64: 891, 256: 3915, 1024: 3915},
    "float8-kv": {1: 1323, 64: 1323, 256: 1323, 1024: 1323},
    "float32": {1: 1323, 64: 1323, 256: 1323, 1024: 1323},
}
# Gigabytes read and written in it, context 512, at most.
GIGABYTES: Mapping[str, Mapping[int, float]] = {
    "plain": {1: 9.28, 64: 13.03, 256: 24.48, 1024: 70.26},
    "fused": {1: 9.34, 64: 12.34, 256: 24.48, 1024: 70.26},
    "float8": {1: 4.82, 64: 7.83, 256: 53.43, 1024: 145.3},
    "int8": {1: 4.82, 64: 7.83, 256: 53.43, 1024: 145.3},
    "float8-kv": {1: 9.26, 64: 11.96, 256: 20.17, 1024: 53.04},
    "float32": {1: 18.55, 64: 25.92, 256: 48.38, 1024: 138.3},
}
CONTEXT = 512

MOST_REGISTERS = 255  # of a thread: all that there are, so spills are what is looked for
MOST_REGISTERS_OF_BLOCK = 65_536  # of a multiprocessor
MOST_SHARED = 160 * 1024  # bytes of a block; a multiprocessor has 227 KiB for all of its blocks
MOST_STACK = 16  # bytes of a thread
LEAST_WIDE = 0.2  # share of a product's load instructions; those of scales, norms and residuals are narrower


def complaints_about_code(codes: Iterable[MachineCode]) -> list[str]:
    """A line for each number that is over its budget."""
    wrong = []
    for code in codes:
        limits = (
            ("registers of a thread", code.registers, MOST_REGISTERS),
            ("registers of a block", code.registers * 32 * code.warps, MOST_REGISTERS_OF_BLOCK),
            ("bytes of shared memory", code.shared, MOST_SHARED),
            ("bytes of stack", code.stack, MOST_STACK),
            ("spills", code.spills, 0),
        )
        wrong += [f"{code.name}: {given} {what}; at most {most}" for what, given, most in limits if given > most]
        if code.asks_for_products and not code.products:
            wrong.append(f"{code.name}: its products are not on tensor cores")
        if code.products and code.loads_16 < LEAST_WIDE * code.loads:
            wrong.append(
                f"{code.name}: {code.loads_16} of {code.loads} loads are of 16 bytes; {LEAST_WIDE:.0%} must be"
            )
    return wrong


def complaints_about_frame(form: str, batch: int, operations: int, size_bytes: int) -> list[str]:
    """A line for each number that is over its budget. Raises: KeyError for a form that has none."""
    wrong = []
    for what, table, given in (
        ("operations", OPERATIONS, operations),
        ("GB", GIGABYTES, round(size_bytes / 1e9, 2)),
    ):
        limits: Mapping[int, float] = table[form]
        most = limits[min(size for size in limits if size >= batch)]  # of the next size that stands in the table
        if given > most:
            wrong.append(f"{form} at batch {batch}: {given} {what}; at most {most}")
    return wrong
