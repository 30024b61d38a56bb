"""Compiles every Triton kernel of every form and batch for Hopper without a GPU, and models the time of a frame.

    TRITON_INTERPRET=0 python -m bench.kernel_proof                       # the full grid
    TRITON_INTERPRET=0 python -m bench.kernel_proof --representative      # what `make test` compiles
    TRITON_INTERPRET=0 python -m bench.kernel_proof --fit                 # the model of time, after a new profile
    TRITON_INTERPRET=0 python -m bench.kernel_proof --count               # the depth kernel's work, after a change

Compiled code is kept in build/kernels by the hash of its source. The times are a model, fitted to a profile of an H100,
and printed beside the measured ones. The last line is one JSON object. The exit code is 1 if something is over budget.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import triton

from bench.command import integers, parser_of, words
from bench.kernel_proof import budget, time_model
from bench.kernel_proof.codec_step import CODEC_ROWS, TracedCodec, tick_ms
from bench.kernel_proof.codec_step import PARTS as CODEC_PARTS
from bench.kernel_proof.depth import depth_counts
from bench.kernel_proof.fast_step import ALL_BATCHES, PROVED_FORMS
from bench.kernel_proof.machine_code import KEPT_IN
from bench.kernel_proof.prefill_model import PassModel, admissions_per_second
from bench.kernel_proof.proof import Proof, representatives
from bench.shapes import CSM_1B
from bench.timing import DTYPES

REPRESENTATIVE_FORMS = tuple(form for form in PROVED_FORMS if form not in ("float32", "float8-depth-kernel"))
REPRESENTATIVE_BATCHES = (1, 64, 256)
PROMPT_ROWS = 40  # of a prompt without context, in the model of admissions


def main() -> int:
    arguments = parse_arguments()
    began = time.monotonic()
    proof = Proof()
    proof.trace(arguments.forms, arguments.batches)
    print(f"{len(proof.frames)} frames, {len(proof.variants)} variants traced in {time.monotonic() - began:.1f} s")
    if arguments.fit:
        rows = time_model.profile_rows()
        fitted = time_model.fit(rows, proof.frames)
        time_model.FITTED.write_text(json.dumps(time_model.to_json(fitted), indent=1) + "\n", encoding="utf-8")
    launches = list(proof.variants.values())
    proof.compile(representatives(launches) if arguments.representative else launches, arguments.kept_in)
    print(f"{len(proof.codes)} compiled after {time.monotonic() - began:.1f} s")
    if arguments.count:
        depth_counts.keep(
            {name: work for code in proof.codes for name, work in code.tile_work.items()}, triton.__version__
        )
    print_codes(proof)
    model = time_model.from_json(json.loads(time_model.FITTED.read_text(encoding="utf-8")))
    errors = print_times(proof, model)
    passes = print_passes(proof, model)
    codec, over = ({}, []) if arguments.representative else print_codec(model)
    wrong = proof.complaints() + over
    for line in wrong:
        print(f"over budget: {line}")
    print(json.dumps(summary(proof, model, wrong, errors) | passes | codec))
    return 1 if wrong else 0


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("bench.kernel_proof", __doc__)
    parser.add_argument("--representative", action="store_true", help="one variant of each kind, fewer forms")
    parser.add_argument("--forms", type=words)
    parser.add_argument("--batches", type=integers)
    parser.add_argument("--fit", action="store_true", help="fit the model of time to the profile in bench/results")
    parser.add_argument("--count", action="store_true", help="keep what tiles of the depth kernel's compiled code do")
    parser.add_argument("--kept-in", type=Path, default=KEPT_IN)
    arguments = parser.parse_args()
    few = arguments.representative
    arguments.forms = arguments.forms or (REPRESENTATIVE_FORMS if few else PROVED_FORMS)
    arguments.batches = arguments.batches or (REPRESENTATIVE_BATCHES if few else ALL_BATCHES)
    return arguments


def print_codes(proof: Proof) -> None:
    for name in sorted({code.name for code in proof.codes}):
        codes = [code for code in proof.codes if code.name == name]
        print(
            f"{name:>28}  {len(codes):>3} variants  registers to {max(code.registers for code in codes):>3}"
            f"  shared to {max(code.shared for code in codes):>6} B  spilling {sum(code.spills > 0 for code in codes)}"
            f"  tensor cores {sum(code.products > 0 for code in codes):>3}"
            f"  16-byte loads {sum(code.loads_16 for code in codes)}/{sum(code.loads for code in codes)}"
        )


def print_times(proof: Proof, model: time_model.TimeModel) -> dict[str, float]:
    """Modelled and measured times, context 512. The model's error in percent, where there is a measurement."""
    measured = {(row["form"], row["batch"]): row["frame_ms"] for row in time_model.profile_rows()}
    errors = {}
    for (form, batch), operations in proof.frames.items():
        modelled = model.frame_ms(operations, batch)
        line = f"{form:>10} batch {batch:>4}  {operations.total:>5} operations  {operations.total_bytes / 1e9:>7.2f} GB"
        line += f"  modelled {modelled:>7.2f} ms"
        if (form, batch) in measured:
            error = 100 * (modelled / measured[form, batch] - 1)
            errors[f"{form} {batch}"] = round(error, 1)
            line += f"  measured {measured[form, batch]:>7.2f} ms (H100, as profiled)  {error:+.1f} %"
        if unknown := model.unknown(operations):
            line += f"  guessed: {', '.join(unknown)}"
        print(line)
    return errors


def print_passes(proof: Proof, model: time_model.TimeModel) -> dict[str, object]:
    """Modelled times of prefill passes, and modelled admissions per second; nothing of it is measured."""
    operations: dict[str, dict[str, int]] = {}
    modelled: dict[str, dict[str, float]] = {}
    for (form, rows), counted in proof.passes.items():
        passes = PassModel(model, CSM_1B.backbone, kv_bytes=1 if "float8-kv" in form else 2)
        short, long = (passes.pass_ms(counted, rows, context) for context in (PROMPT_ROWS, 2040))
        operations.setdefault(form, {})[str(rows)] = counted.total
        modelled.setdefault(form, {})[str(rows)] = round(short, 2)
        line = f"{form:>10} pass of {rows:>3} rows  {counted.total:>4} operations  modelled {short:.2f} ms,"
        print(f"{line} {long:.2f} ms where each row attends to 2,040 positions")
    admissions: dict[str, dict[str, float]] = {}
    for (form, batch), frame in proof.frames.items():
        if (form, 256) in proof.passes:
            rate = admissions_per_second(modelled[form]["256"], model.frame_ms(frame, batch), 256, PROMPT_ROWS)
            admissions.setdefault(form, {})[str(batch)] = round(rate)
    return {
        "prefill_operations": operations,
        "modelled_prefill_ms": modelled,
        "modelled_admissions_per_second": admissions,
    }


def print_codec(model: time_model.TimeModel) -> tuple[dict[str, object], list[str]]:
    """The codec's captured parts, counted, and the modelled time of a codec frame; nothing of it is measured."""
    operations: dict[str, dict[str, int]] = {}
    modelled: dict[str, dict[str, list[float]]] = {}
    wrong = []
    for form in DTYPES:
        for rows in CODEC_ROWS:
            codec = TracedCodec(form, rows)
            steps = {part: codec.traced(part) for part in CODEC_PARTS}
            for part, step in steps.items():
                counted = step.operations
                wrong += budget.complaints_about_codec(form, part, rows, counted.total, counted.total_bytes)
                print(
                    f"{'codec ' + form:>15} {part:>6} {rows:>4} rows  {counted.total:>4} operations"
                    f"  {counted.total_bytes / 1e9:>6.2f} GB  {step.flops / 1e9:>6.1f} GFLOP"
                    f"  modelled {step.modelled_ms(model, form):>6.2f} ms"
                )
            operations[form] = {part: step.operations.total for part, step in steps.items()}
            times = [round(tick_ms(steps, model, form, near), 1) for near in (0, rows // 4)]
            modelled.setdefault(form, {})[str(rows)] = times
            line = f"{'codec ' + form:>15}  frame {rows:>4} rows  modelled {times[0]} ms"
            print(f"{line}; with a quarter of them near their start {times[1]} ms")
    return {"codec_operations": operations, "modelled_codec_ms": modelled}, wrong


def summary(proof: Proof, model: time_model.TimeModel, wrong: list[str], errors: dict[str, float]) -> dict[str, object]:
    operations: dict[str, dict[str, int]] = {}
    modelled: dict[str, dict[str, float]] = {}
    guessed: set[str] = set()
    for (form, batch), counted in proof.frames.items():
        operations.setdefault(form, {})[str(batch)] = counted.total
        modelled.setdefault(form, {})[str(batch)] = round(model.frame_ms(counted, batch), 2)
        guessed |= set(model.unknown(counted))
    return {
        "variants": len(proof.codes) + len(proof.failed),
        "failed": len(proof.failed),
        "spilling": sum(code.spills > 0 or code.stack > budget.MOST_STACK for code in proof.codes),
        "over_budget": wrong,
        "operations": operations,
        "modelled_ms": modelled,
        "model_error_percent": errors,
        "guessed_classes": sorted(guessed),
    }


if __name__ == "__main__":
    sys.exit(main())
