"""Prefill benchmark on a CPU: how long a pass over a prompt's rows takes, in compiled kernels and in torch, in one run.

    OMP_WAIT_POLICY=PASSIVE python -m bench.prefill --rows 8,64,256 --threads 2

Each arm's keys and values must be close to the first arm's, or there are no figures. Then the arms take turns, ABBA.
`ours` is the engine's prefill, `ours-narrow` the same without vectors of AVX-512, `ours-torch` that of a model without
compiled kernels. The last line is one JSON object.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from bench.arms import Ours
from bench.command import integers, result_parser
from bench.frame_step import make_arms, make_prompts
from bench.machine import result_head
from bench.report import write_result
from bench.shapes import SHAPES
from bench.timing import in_turns

_ARMS = ["ours-torch", "ours-narrow", "ours"]
_ROUNDS, _PASSES = 6, 5


def main() -> None:
    parser = result_parser("bench.prefill", __doc__)
    parser.add_argument("--shape", choices=SHAPES, default="builtin-voice")
    parser.add_argument("--rows", type=integers, default=[8, 16, 32, 64, 128, 256], help="of the prompt")
    parser.add_argument("--contexts", type=integers, default=[0], help="positions before them, which are filled")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    arguments = parser.parse_args()
    config = SHAPES[arguments.shape]
    if min(arguments.rows) < 1 or max(arguments.contexts) + max(arguments.rows) > config.max_seq_len:
        parser.error(f"--contexts and --rows, at least 1, must fit in the window of {config.max_seq_len} positions")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    cpu, dtype = torch.device("cpu"), torch.float32
    rows: list[dict[str, object]] = []
    with torch.inference_mode():
        made = make_arms(config, 1, cpu, dtype, _ARMS)
        arms = {name: arm for name, arm in made.items() if isinstance(arm, Ours)}  # all of them
        for context in arguments.contexts:
            for length in arguments.rows:
                prompt = make_prompts(config, 1, context + length, cpu, dtype)[0]
                for name, taken in measure(arms, prompt, context).items():
                    rows.append({"arm": name, "rows": length, "context": context, **taken})
                    print(f"{name:>12}  {length:>4} rows after {context:>4}  {taken['pass_ms']:>8} ms", flush=True)
    head = result_head("prefill", torch=torch.__version__, threads=torch.get_num_threads(), shape=arguments.shape)
    write_result(head | {"dtype": "float32", "note": arguments.note, "rows": rows}, arguments.out)


def measure(arms: dict[str, Ours], prompt: Tensor, context: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a pass over the rows after the context, of each arm."""
    kept: list[Tensor] = []
    for arm in arms.values():
        if context:
            arm.prefill(prompt[:context], 0)
        arm.prefill(prompt[context:], context)
        kept.append(arm.kept(len(prompt)))
        torch.testing.assert_close(kept[-1], kept[0], atol=1e-4, rtol=1e-3)
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for name in in_turns(arms, _ROUNDS):
        for _ in range(_PASSES):
            began = time.perf_counter()
            arms[name].prefill(prompt[context:], context)
            taken[name].append((time.perf_counter() - began) * 1000)
    return {
        name: {"pass_ms": round(statistics.median(all_), 3), "pass_ms_min": round(min(all_), 3)}
        for name, all_ in taken.items()
    }


if __name__ == "__main__":
    main()
