"""Part of a lease: one captured frame by form, batch and context.

    python3 -m bench.lease.grid --forms plain,fused --batches 1,16,64,256,1024 --contexts 128,512,1024,2020

The slots hold random keys and values and start at the context's position, so no prompt is prefilled. A batch that does
not fit into memory is left out and reported as left out.
"""

from __future__ import annotations

import statistics
import time

import torch

from bench.command import integers
from bench.lease.forms import FORMS, fill_cache, form_names, new_step, new_weights, slots_that_fit
from bench.lease.options import Given, opened, parser
from bench.timing import synchronize
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.types import SamplingParams

WARM_UPS = 3


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--forms", type=form_names, default=["plain"], help=", ".join(FORMS))
    options.add_argument("--batches", type=integers, help="ascending", default=[1, 16, 64, 128, 256, 512, 1024])
    options.add_argument("--contexts", type=integers, default=[128, 512, 1024, 2000])
    options.add_argument("--frames", type=int, default=20)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    given = Given.by(arguments)
    device, window = given.device, given.model.max_seq_len
    last = max(arguments.contexts) + WARM_UPS + arguments.frames
    if last >= window:
        options.error(f"--contexts and --frames reach position {last}; the window is {window}")
    arguments.batches.sort()
    figures = opened("grid", arguments)
    with torch.inference_mode():
        for form in arguments.forms:
            began, most = time.monotonic(), slots_that_fit(given, form)
            batches = [batch for batch in arguments.batches if batch <= most]
            if len(batches) < len(arguments.batches):
                figures.add(form=form, left_out=arguments.batches[len(batches) :], slots_that_fit=most)
            if given.on_gpu:
                torch.cuda.reset_peak_memory_stats(device)
            weights = new_weights(given, form, max(batches))
            lean = new_step(weights, form, max(batches))
            fill_cache(lean)
            runner = GraphRunner(lean, max(batches))
            synchronize(device)
            allocated = torch.cuda.max_memory_allocated(device) if given.on_gpu else 0
            figures.add(form=form, ready_s=round(time.monotonic() - began, 1), memory_gib=round(allocated / 2**30, 2))
            for batch in batches:
                for context in arguments.contexts:
                    turns = [frame_ms(runner, batch, context, arguments.frames) for _ in range(arguments.rounds)]
                    median = statistics.median(turns)
                    figures.add(
                        form=form,
                        batch=batch,
                        context=context,
                        frame_ms=round(median, 3),
                        turns_ms=[round(turn, 3) for turn in turns],
                        frames_per_second=round(1000 * batch / median, 1),
                    )
            del runner, lean, weights


def frame_ms(runner: GraphRunner, batch: int, context: int, frames: int) -> float:
    """Milliseconds of a frame of `batch` rows that have `context` positions at the start.

    Raises: RuntimeError if a row ended meanwhile. Such a row is padding and costs less.
    """
    slots = torch.arange(batch, device=runner.device)
    embedding = torch.randn(runner.state.next_embedding.shape[1], device=runner.device).to(
        runner.state.next_embedding.dtype
    )
    for slot in range(batch):
        sampling = SamplingParams(seed=slot)
        runner.state.start(slot, embedding, position=context, frame=0, sampling=sampling)
    for _ in range(WARM_UPS):
        runner(slots)
    synchronize(runner.device)
    began = time.perf_counter()
    for _ in range(frames):
        runner(slots)
    synchronize(runner.device)
    took = time.perf_counter() - began
    if not bool(runner.state.active[slots].all()):
        raise RuntimeError(f"a row of batch {batch} at context {context} ended before its turn was over")
    return 1000 * took / frames


if __name__ == "__main__":
    main()
