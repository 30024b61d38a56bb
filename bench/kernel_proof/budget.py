"""What a frame and its kernels may cost. A change may lower these numbers; tests fail when it exceeds them.

Pure: it compares the counted operations and the compiled kernels with the tables below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.kernel_proof.machine_code import MachineCode

# Device operations of one frame at csm-1b's shapes, at most: form -> batch -> operations. A vendor's library adds one
# where it splits a product's sum, and there is one copy: an H100's profile has 1,397 for plain.
OPERATIONS: Mapping[str, Mapping[int, int]] = {
    "auto": {1: 791, 64: 951, 256: 1225, 1024: 1252},
    "plain": {1: 1225, 64: 1225, 256: 1225, 1024: 1252},
    "fused": {1: 774, 64: 774, 256: 774, 1024: 789},
    "float8": {1: 805, 64: 805, 256: 805, 1024: 820},
    "int8": {1: 805, 64: 805, 256: 805, 1024: 820},
    "float8-kv": {1: 1225, 64: 1225, 256: 1225, 1024: 1252},
    "float32": {1: 1225, 64: 1225, 256: 1225, 1024: 1252},
    "depth-kernel": {1: 136, 64: 136, 256: 1225, 1024: 1252},
    "float8-depth-kernel": {1: 88, 64: 88, 256: 805, 1024: 820},
    "int8-depth-kernel": {1: 88, 64: 88, 256: 805, 1024: 820},
}
# Device operations of a prefill pass at most, whatever its rows. From the host they are one copy and one launch.
PREFILL_OPERATIONS: Mapping[str, int] = {
    "auto": 149,
    "plain": 149,
    "fused": 103,
    "float8": 103,
    "int8": 103,
    "float8-kv": 149,
    "float32": 149,
    "depth-kernel": 149,
    "float8-depth-kernel": 103,
    "int8-depth-kernel": 103,
}
# Gigabytes read and written in it, context 512, at most.
GIGABYTES: Mapping[str, Mapping[int, float]] = {
    "auto": {1: 9.08, 64: 11.01, 256: 19.54, 1024: 51.51},
    "plain": {1: 9.03, 64: 11.63, 256: 19.54, 1024: 51.51},
    "fused": {1: 9.09, 64: 10.94, 256: 16.77, 1024: 40.37},
    "float8": {1: 4.77, 64: 7.04, 256: 14.3, 1024: 43.54},
    "int8": {1: 4.77, 64: 7.04, 256: 14.3, 1024: 43.54},
    "float8-kv": {1: 9.02, 64: 11.09, 256: 17.39, 1024: 42.9},
    "float32": {1: 18.06, 64: 23.18, 256: 38.78, 1024: 101.84},
    "depth-kernel": {1: 9.01, 64: 10.32, 256: 19.54, 1024: 51.51},
    "float8-depth-kernel": {1: 4.61, 64: 5.35, 256: 12.15, 1024: 34.93},
    "int8-depth-kernel": {1: 4.61, 64: 5.35, 256: 12.15, 1024: 34.93},
}
CONTEXT = 512
# Device operations of the codec's captured parts at the published sizes, at most, whatever the bucket of rows.
CODEC_OPERATIONS: Mapping[str, Mapping[str, int]] = {
    "float32": {"mimi": 200, "latent": 135, "mark": 85, "near": 191},
    "bfloat16": {"mimi": 235, "latent": 168, "mark": 87, "near": 192},
}
# Gigabytes read and written in a part, for up to 1,024 rows ("near": 64 of them), at most.
CODEC_GIGABYTES: Mapping[str, Mapping[str, float]] = {
    "float32": {"mimi": 28.6, "latent": 6.2, "mark": 28.8, "near": 9.7},
    "bfloat16": {"mimi": 17.5, "latent": 3.7, "mark": 15.5, "near": 4.9},
}

MULTIPROCESSORS = 132  # of an H100
MOST_REGISTERS = 255  # of a thread: all that there are, so spills are the check that counts
MOST_REGISTERS_OF_BLOCK = 65_536  # of a multiprocessor
MOST_SHARED = 160 * 1024  # bytes of a block; a multiprocessor has 227 KiB for all of its blocks
MOST_STACK = 16  # bytes of a thread
LEAST_WIDE = 0.1  # share of a product's load instructions; those of scales, norms and residuals are narrower


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
        for what, given, most in limits:
            wrong += _over(code.name, given, what, most)
        if code.must_run_at_once > (most := MULTIPROCESSORS * code.programs_of_multiprocessor):
            wrong.append(f"{code.name}: {code.must_run_at_once} programs must run at once; {most} can")
        wrong += [f"{code.name}: {breach}" for breach in code.disorder]
        if code.source_has_products and not code.products:
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
        wrong += _over(f"{form} at batch {batch}", given, what, most)
    return wrong


def complaints_about_pass(form: str, rows: int, operations: int) -> list[str]:
    """A line if a prefill pass has more operations than its budget. Raises: KeyError for a form that has none."""
    return _over(f"{form}, a pass of {rows} rows", operations, "operations", PREFILL_OPERATIONS[form])


def complaints_about_codec(form: str, part: str, rows: int, operations: int, size_bytes: int) -> list[str]:
    """A line for each number of a part of the codec's step that is over its budget. Raises: KeyError as above."""
    name = f"codec in {form}, {part}, {rows} rows"
    wrong = _over(name, operations, "operations", CODEC_OPERATIONS[form][part])
    return wrong + _over(name, round(size_bytes / 1e9, 1), "GB", CODEC_GIGABYTES[form][part])


def _over(name: str, given: float, what: str, most: float) -> list[str]:
    return [f"{name}: {given} {what}; at most {most}"] if given > most else []
