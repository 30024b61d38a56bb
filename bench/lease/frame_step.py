"""Part of a lease: one frame in every form beside the reference's way and transformers', each after its gate.

    python3 -m bench.lease.frame_step --batches 1,64 --context 512

The arms, the gate and the timing are those of `bench.frame_step`; the figures are written arm by arm.
"""

from __future__ import annotations

import statistics

import torch

from bench import gate
from bench.command import integers, words
from bench.frame_step import copy_bandwidth, logit_error, make_arms, make_prompts, measure
from bench.lease.forms import release_memory
from bench.lease.options import opened, parser
from bench.shapes import SHAPES, frame_bytes
from bench.timing import DTYPES

PUBLISHED = ["reference", "transformers", "ours"]
FORMS = ["ours", "ours-fused", "ours-float8", "ours-int8", "ours-float8-kv"]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batches", type=integers, default=[1, 64])
    options.add_argument("--context", type=int, default=512)
    options.add_argument(
        "--frames", type=int, default=50, help="frames of a turn of a form; the published ways make fewer"
    )
    options.add_argument("--published-frames", type=int, default=15)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--published", type=words, default=PUBLISHED)
    options.add_argument("--forms", type=words, default=FORMS)
    arguments = options.parse_args()
    figures = opened("frame_step", arguments)
    config, device, dtype = SHAPES[arguments.shape], arguments.device, DTYPES[arguments.dtype]
    bandwidth = copy_bandwidth(device)
    figures.add(copy_gb_per_s=round(bandwidth / 1e9, 1))
    with torch.inference_mode():
        for names, frames in ((arguments.forms, arguments.frames), (arguments.published, arguments.published_frames)):
            for batch in arguments.batches:
                release_memory(device)
                arms = make_arms(config, batch, device, dtype, names)
                prompts = make_prompts(config, batch, arguments.context, device, dtype)
                agreement, errors = gate.check(arms, prompts), logit_error(arms, prompts)
                floor = frame_bytes(config, batch=batch, context=arguments.context, bytes_per_value=dtype.itemsize)
                for arm, turns in measure(arms, prompts, frames, arguments.rounds, device).items():
                    figures.add(
                        arm=arm,
                        batch=batch,
                        context=arguments.context,
                        frame_ms=round(statistics.median(turns), 3),
                        turns_ms=[round(turn, 3) for turn in turns],
                        percent_of_floor=round(100_000 * floor / bandwidth / statistics.median(turns), 1),
                        greedy_codes_as_in_first_arm=agreement.get(arm),
                        logit_error=errors.get(arm),
                    )
                del arms, prompts


if __name__ == "__main__":
    main()
