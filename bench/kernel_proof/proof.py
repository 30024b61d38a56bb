"""The proof: every form and batch is traced, every kernel variant compiled, and all are compared with the budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.kernel_proof.budget import CONTEXT, complaints_about_code, complaints_about_frame, complaints_about_pass
from bench.kernel_proof.depth import depth_counts
from bench.kernel_proof.fast_step import (
    PREFILL_ROWS,
    barrier_programs,
    frame,
    new_traced_step,
    partly_read,
    prefill,
    prefill_table,
    prompts,
)
from bench.kernel_proof.machine_code import KEPT_IN, MachineCode, machine_codes
from bench.kernel_proof.operations import Operations, count
from bench.kernel_proof.pretended_gpu import Launch, pretended_gpu


@dataclass
class Proof:
    """frames: by form and batch; passes: of prefill, by form and rows; variants: of every kernel, each once."""

    frames: dict[tuple[str, int], Operations] = field(default_factory=dict)
    passes: dict[tuple[str, int], Operations] = field(default_factory=dict)
    variants: dict[object, Launch] = field(default_factory=dict)
    codes: list[MachineCode] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # variants that do not compile

    def trace(self, forms: Iterable[str], batches: Iterable[int]) -> None:
        """Traces the frames of these forms and batches, the passes of prefill, and the engine's other launches."""
        sizes = list(batches)
        self._add_variants(count(barrier_programs))
        for form in forms:
            with pretended_gpu(lambda launch: None):
                step = new_traced_step(form, max(sizes))
                if not self.frames:
                    frame(step, 1)  # creates what exists once in a process
            for batch in sizes:
                if step.weights.stacked_depth is not None:
                    count(partial(frame, step, batch))  # creates the buffers of this batch
                rows = partly_read(step, batch, CONTEXT)
                self._add_variants(self.frames.setdefault((form, batch), count(partial(frame, step, batch), rows)))
            for pass_rows in PREFILL_ROWS:
                table, read = prefill_table(step, pass_rows), partly_read(step, pass_rows, 0)
                self._add_variants(
                    self.passes.setdefault((form, pass_rows), count(partial(prefill, step, table), read))
                )
            for function in prompts(step).values():
                self._add_variants(count(function))

    def _add_variants(self, operations: Operations) -> None:
        for launch in operations.launches:
            self.variants.setdefault(launch.variant(), launch)

    def compile(self, launches: Iterable[Launch], kept_in: Path = KEPT_IN) -> None:
        for launch, code in machine_codes(launches, kept_in):
            if isinstance(code, MachineCode):
                self.codes.append(code)
            else:  # a kernel that a GPU could not run
                self.failed.append(f"{launch.name}: {code}")

    def complaints(self) -> list[str]:
        """A line for each number over its budget, and for each variant that does not compile."""
        wrong = [f"does not compile: {failure}" for failure in self.failed]
        wrong += complaints_about_code(self.codes)
        wrong += [line for code in self.codes for line in depth_counts.complaints(code.tile_work)]
        for (form, batch), operations in self.frames.items():
            wrong += complaints_about_frame(form, batch, operations.total, operations.total_bytes)
        for (form, rows), operations in self.passes.items():
            wrong += complaints_about_pass(form, rows, operations.total)
        return wrong


def representatives(launches: Iterable[Launch]) -> list[Launch]:
    """One launch for each combination of kernel, tensor types and switches: the launch with the largest numbers."""
    chosen: dict[object, tuple[int, Launch]] = {}
    for launch in launches:
        options = launch.options.items()
        switches = tuple((name, value) for name, value in options if isinstance(value, bool))
        kind = (launch.name, tuple(str(tensor.dtype) for tensor in launch.tensors.values()), switches)
        numbers = [getattr(value, "row_block", value) for _, value in options]
        size = sum(value for value in numbers if isinstance(value, int) and not isinstance(value, bool))
        if kind not in chosen or size > chosen[kind][0]:
            chosen[kind] = (size, launch)
    return [launch for _, launch in chosen.values()]
