"""Part of a lease: how long a prompt's prefill takes, by length and chunk, and what a new length costs.

    python3 -m bench.lease.prefill --lengths 64,256,512,1024,2040 --chunks 256,2048

`host_ms` is the time until every launch is queued, `prompt_ms` until the device is done, `first_ms` the same for the
first prompt of that length and chunk, in which libraries choose their algorithms. `unseen` runs lengths that differ by
one, each once.
"""

from __future__ import annotations

import statistics
import time

import torch

from bench.lease.forms import FORMS, form_names, new_step, new_weights, spread
from bench.lease.options import DTYPES, numbers, opened, parser
from bench.shapes import SHAPES
from bench.timing import synchronize
from csm_engine.execution.graph_runner import GraphRunner


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--forms", type=form_names, default=["plain"], help=", ".join(FORMS))
    options.add_argument("--lengths", type=numbers, default=[32, 64, 128, 256, 512, 1024, 2040])
    options.add_argument("--chunks", type=numbers, default=[256, 2048], help="most positions of a call")
    options.add_argument("--unseen", type=int, default=40, help="lengths that are run once each")
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    figures = opened("prefill", arguments)
    config, device, dtype = SHAPES[arguments.shape], arguments.device, DTYPES[arguments.dtype]
    with torch.inference_mode():
        for form in arguments.forms:
            weights = new_weights(config, form, device=device, dtype=dtype, rows=8)
            runner = GraphRunner(new_step(weights, form, 8), 8)
            for chunk in arguments.chunks:
                for length in arguments.lengths:
                    if chunk > 256 and length <= 256:
                        continue  # the same as with the smaller chunk
                    x = torch.randn(length, config.backbone.dim, device=device).to(dtype)
                    _, first_s = prompt_seconds(runner, x, chunk)
                    turns = [prompt_seconds(runner, x, chunk) for _ in range(arguments.rounds)]
                    done_s = statistics.median(done for _, done in turns)
                    figures.add(
                        form=form,
                        length=length,
                        chunk=chunk,
                        first_ms=round(1000 * first_s, 2),
                        host_ms=round(1000 * statistics.median(host for host, _ in turns), 2),
                        prompt_ms=round(1000 * done_s, 2),
                        positions_per_second=round(length / done_s),
                    )
            longest = min(config.max_seq_len - 1, 101 + arguments.unseen)
            unseen = [
                prompt_seconds(runner, torch.randn(length, config.backbone.dim, device=device).to(dtype), 256)[1]
                for length in range(101, longest)
            ]
            figures.add(form=form, unseen_lengths=len(unseen), prompt_ms=spread(unseen))
            del runner, weights


def prompt_seconds(runner: GraphRunner, x: torch.Tensor, chunk: int) -> tuple[float, float]:
    """x: (T, D) -> seconds until everything is launched, and until everything is done."""
    synchronize(runner.device)
    began = time.perf_counter()
    for start in range(0, len(x), chunk):
        runner.backbone.prefill(x[start : start + chunk], 0, start)
    launched = time.perf_counter()
    synchronize(runner.device)
    return launched - began, time.perf_counter() - began


if __name__ == "__main__":
    main()
