"""Part of a lease: how long prefill takes: passes of many prompts, and long prompts by length and chunk.

    python3 -m bench.lease.prefill --together 1,2,4,5,16 --prompt-rows 40 --lengths 256,1024,2040 --chunks 256,512

`host_ms` is the time until every launch is queued, `done_ms` until the device is done. `eager_ms` is the same pass
without a graph. `first_ms` is the first call, in which libraries would choose algorithms if a graph did not hold them.
`capture` tells what the graphs of a chunk size cost: seconds, and bytes that torch reserved for them. `unseen` runs
lengths that differ by one, each once.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.command import integers
from bench.lease.figures import Figures, spread_ms
from bench.lease.forms import FORMS, form_names, new_step, new_weights, release_memory
from bench.lease.options import Given, opened, parser
from bench.timing import synchronize
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.prompt_rows import FirstFrame, PromptRows
from csm_engine.model.shapes import ModelConfig
from csm_engine.scheduling.buckets import MAX_PREFILL_PROMPTS, in_tiles
from csm_engine.types import SamplingParams


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--forms", type=form_names, default=["plain"], help=", ".join(FORMS))
    options.add_argument("--together", type=integers, default=[1, 2, 4, 5, 8, 16], help="prompts of a pass")
    options.add_argument("--prompt-rows", type=integers, default=[0, 16, 40], help="of each of those prompts")
    options.add_argument("--lengths", type=integers, default=[32, 64, 128, 256, 512, 1024, 2040])
    options.add_argument("--chunks", type=integers, default=[256, 512], help="most positions of a pass")
    options.add_argument("--unseen", type=int, default=40, help="lengths that are run once each")
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    figures = opened("prefill", arguments)
    with torch.inference_mode():
        for form in arguments.forms:
            weights = new_weights(Given.by(arguments), form, MAX_PREFILL_PROMPTS)
            step = new_step(weights, form, MAX_PREFILL_PROMPTS)
            for chunk in arguments.chunks:
                runner = captured(step, form, chunk, figures)
                passes(runner, step, form, chunk, arguments, figures)
                prompts(runner, form, chunk, arguments, figures)
                del runner
            del step, weights


def captured(step: PackedFrameStep, form: str, chunk: int, figures: Figures) -> GraphRunner:
    """A runner whose passes hold `chunk` rows, and what its graphs of prefill and of one batch of one row cost."""
    on_gpu = step.device.type == "cuda"
    release_memory(step.device)  # a capture does it, too: what was kept for later would count against it
    before = torch.cuda.memory_reserved(step.device) if on_gpu else 0
    began = time.perf_counter()
    runner = GraphRunner(step, 1, prefill_rows=chunk)
    synchronize(step.device)
    capture_s = round(time.perf_counter() - began, 2)
    release_memory(step.device)
    reserved = torch.cuda.memory_reserved(step.device) - before if on_gpu else None
    figures.add(form=form, chunk=chunk, capture_s=capture_s, capture_bytes=reserved)
    return runner


def passes(
    runner: GraphRunner, step: PackedFrameStep, form: str, chunk: int, arguments: Namespace, figures: Figures
) -> None:
    """Many prompts in one pass, captured and eager."""
    for rows in arguments.prompt_rows:
        for count in arguments.together:
            if count * in_tiles(rows) > in_tiles(chunk):
                continue
            given = [prompt(runner.config, slot, 0, rows, is_last=True) for slot in range(count)]
            host_s, done_s = median_of(arguments.rounds, runner, partial(runner.prefill, given))
            _, eager_s = median_of(arguments.rounds, runner, partial(step.prefill, given))
            figures.add(
                form=form,
                chunk=chunk,
                prompts=count,
                prompt_rows=rows,
                host_ms=round(1000 * host_s, 3),
                done_ms=round(1000 * done_s, 3),
                eager_ms=round(1000 * eager_s, 3),
                prompts_per_second=round(count / done_s),
            )


def prompts(runner: GraphRunner, form: str, chunk: int, arguments: Namespace, figures: Figures) -> None:
    """Single prompts in as many passes as they need."""
    longest = runner.config.max_seq_len
    for length in [length for length in arguments.lengths if length < longest]:
        first_s = seconds_of(runner, partial(whole, runner, length, chunk))[1]
        host_s, done_s = median_of(arguments.rounds, runner, partial(whole, runner, length, chunk))
        figures.add(
            form=form,
            length=length,
            chunk=chunk,
            first_ms=round(1000 * first_s, 2),
            host_ms=round(1000 * host_s, 2),
            done_ms=round(1000 * done_s, 2),
            positions_per_second=round(length / done_s),
        )
    lengths = range(101, min(longest - 1, 101 + arguments.unseen))
    unseen = [seconds_of(runner, partial(whole, runner, length, chunk))[1] for length in lengths]
    if unseen:
        figures.add(form=form, chunk=chunk, unseen_lengths=len(unseen), prompt_ms=spread_ms(unseen))


def whole(runner: GraphRunner, length: int, chunk: int) -> None:
    """Prefills one prompt of that many positions, chunk by chunk."""
    for start in range(0, length, chunk):
        rows = min(chunk, length - start)
        runner.prefill([prompt(runner.config, 0, start, rows, is_last=start + rows == length)])


def prompt(config: ModelConfig, slot: int, start: int, rows: int, *, is_last: bool) -> PromptRows:
    """Rows of text."""
    ids = np.full((rows + 1, config.num_codebooks + 1), -1, dtype=np.int32)
    ids[:, -1] = np.random.default_rng(slot).integers(0, config.text_vocab_size, rows + 1)
    first = FirstFrame(ids[-1], start + rows, 0, SamplingParams(seed=slot)) if is_last else None
    return PromptRows(slot, start, ids[:-1], first)


def median_of(rounds: int, runner: GraphRunner, function: Callable[[], object]) -> tuple[float, float]:
    """Medians of `seconds_of`, after one call that is not counted."""
    seconds_of(runner, function)
    turns = [seconds_of(runner, function) for _ in range(rounds)]
    return statistics.median(host for host, _ in turns), statistics.median(done for _, done in turns)


def seconds_of(runner: GraphRunner, function: Callable[[], object]) -> tuple[float, float]:
    """Seconds until everything is launched, and until everything is done."""
    synchronize(runner.device)
    began = time.perf_counter()
    function()
    launched = time.perf_counter()
    synchronize(runner.device)
    return launched - began, time.perf_counter() - began


if __name__ == "__main__":
    main()
