"""Frame-step benchmark: how long one 80 ms frame of codes takes, with our step and the published ones, in one run.

    python -m bench.frame_step --shape tiny --batches 1,16 --context 128 --frames 20
    python -m bench.frame_step --shape csm-1b --device cuda --dtype bfloat16 --batches 1,8,64 --context 512

First a gate (gate.py): every arm's greedy codes must equal the first arm's, or there are no figures. The last line says
what was gated and how many codes agreed. An arm that runs alone is not gated. Then the arms take turns, ABBA, for some
rounds over the same weights, prompts and frame counts. Prefill is not counted.

On a CPU, `ours-torch` is our step without compiled kernels, which only small models in float32 have, and `ours-narrow`
has the kernels, but no vectors of AVX-512.
`ours-bfloat16` is our step with its weights in bfloat16 for any --dtype. `ours-int8` has the layers' matrices in int8,
`ours-float8` has them in float8, and `ours-float8-kv` has the conversations' keys and values in float8. The run also
measures how far their logits are from those of `ours`. On a GPU, `ours-fused` uses our own kernels for matrix products,
`ours-auto` uses them where they were measured to be faster, and the other arms use none of them. Prints a table; the
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from bench import gate
from bench.arms import Arm, Ours, OursNarrow, Reference, Transformers
from bench.command import integers, parser_of, words
from bench.lease.forms import FORMS
from bench.machine import commit, cpu_name
from bench.shapes import SHAPES, frame_bytes
from bench.timing import DTYPES, in_turns, synchronize
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig
from csm_engine.types import SamplingParams
from tests.support.tiny.csm import transformers_config

SAMPLING = SamplingParams(temperature=0.9, top_k=50, seed=1)
SMALLEST_CODEC = {  # transformers must build a codec, which is not used
    "model_type": "mimi", "num_filters": 4, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16, "codebook_size": 8, "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8, "upsample_groups": 16,
}  # fmt: skip


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config, device, dtype = SHAPES[arguments.shape], torch.device(arguments.device), DTYPES[arguments.dtype]
    bandwidth = copy_bandwidth(device)
    rows: list[dict[str, object]] = []
    gated, logit_errors = {}, {}
    with torch.inference_mode():
        for batch in arguments.batches:
            arms = make_arms(config, batch, device, dtype, arguments.arms)
            prompts = make_prompts(config, batch, arguments.context, device, dtype)
            gated[batch] = gate.check(arms, prompts)
            logit_errors[batch] = logit_error(arms, prompts)
            floor = frame_bytes(config, batch=batch, context=arguments.context, bytes_per_value=dtype.itemsize)
            for name, frame_ms in measure(arms, prompts, arguments.frames, arguments.rounds, device).items():
                rows.append(make_row(name, batch, arguments.context, frame_ms, 1000 * floor / bandwidth))
                print_row(rows[-1])
    told = {"share_of_greedy_codes_as_in_first_arm": gated, "logit_error_vs_ours": logit_errors}
    print(json.dumps(summary(arguments, rows, bandwidth, device) | told))


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("bench.frame_step", __doc__)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--batches", type=integers, default=[1, 16])
    parser.add_argument("--context", type=int, default=128, help="prompt positions before the first frame")
    parser.add_argument("--frames", type=int, default=20, help="frames per turn of an arm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument(
        "--arms",
        type=words,
        default=["reference", "transformers", "ours"],
        help="who runs: reference, transformers, ours, ours-torch, ours-narrow, ours-bfloat16, ours-int8, ours-float8,"
        " ours-float8-kv, ours-fused, ours-auto, ours-depth-kernel",
    )
    arguments = parser.parse_args()
    window = SHAPES[arguments.shape].max_seq_len
    if arguments.context + max(arguments.frames + 1, gate.FRAMES) >= window:
        parser.error(f"--context and --frames must leave room in the window of {window} positions")
    return arguments


def make_arms(
    config: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype, wanted: list[str]
) -> dict[str, Arm]:
    """The arms by name, with the same seeded weights."""

    def model(dtype: torch.dtype = dtype) -> CSM:
        return random_model(config, seed=0, device=device, dtype=dtype, drawn_on=device)

    def ours(form: str, dtype: torch.dtype = dtype) -> Arm:
        return Ours(FORMS[form].packed(model(dtype), batch), batch, kv_dtype=FORMS[form].kv_dtype)

    values = transformers_config(config) | {
        "codec_config": SMALLEST_CODEC,
        "pad_token_id": 0,
        "codebook_pad_token_id": 0,
    }
    values.pop("audio_codebook_size")
    makers: dict[str, Callable[[], Arm]] = {
        "reference": lambda: Reference(model(), batch),
        "transformers": lambda: Transformers(values, model(), batch),
        "ours": lambda: ours("plain"),
        "ours-torch": lambda: ours("torch"),
        "ours-narrow": lambda: OursNarrow(FORMS["plain"].packed(model(), batch), batch),
        "ours-bfloat16": lambda: ours("plain", torch.bfloat16),
        "ours-int8": lambda: ours("int8", torch.bfloat16),
        **{f"ours-{form}": partial(ours, form) for form in ("float8", "float8-kv", "fused", "auto", "depth-kernel")},
    }
    return {name: makers[name]() for name in wanted}


def make_prompts(
    config: ModelConfig, batch: int, context: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, context, config.backbone.dim, generator=generator).to(device, dtype)


def logit_error(arms: dict[str, Arm], prompts: torch.Tensor) -> dict[str, dict[str, float]]:
    """The logits' error of each variant of ours against ours, if that is among the arms."""
    exact = arms.get("ours")
    if not isinstance(exact, Ours):
        return {}
    exact.start(prompts, SAMPLING)
    codes = exact.frame().long()
    variants = {name: arm for name, arm in arms.items() if isinstance(arm, Ours) and arm is not exact}
    return {name: gate.logit_error(arm, exact, prompts, codes) for name, arm in variants.items()}


def measure(
    arms: dict[str, Arm], prompts: torch.Tensor, frames: int, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds per frame of each arm, in each of its turns."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for name in in_turns(arms, rounds):
        arms[name].start(prompts, SAMPLING)
        arms[name].frame()  # the prompt's prefill is in some arms' first frame
        synchronize(device)
        began = time.perf_counter()
        for _ in range(frames):
            arms[name].frame()
        synchronize(device)
        taken[name].append((time.perf_counter() - began) / frames * 1000)
        gate.check_no_row_ended([arms[name]])
    return taken


def copy_bandwidth(device: torch.device) -> float:
    """Memory bandwidth: bytes a second that a large copy reads and writes."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(8):
        synchronize(device)
        began = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * source.numel() / best


def make_row(arm: str, batch: int, context: int, frame_ms: list[float], floor_ms: float) -> dict[str, object]:
    median = statistics.median(frame_ms)
    return {
        "arm": arm,
        "batch": batch,
        "context": context,
        "frame_ms": round(median, 3),
        "frame_ms_min": round(min(frame_ms), 3),
        "frame_ms_max": round(max(frame_ms), 3),
        "frames_per_second": round(1000 * batch / median, 1),
        "real_time_factor": round(median / 80, 4),
        "percent_of_floor": round(100 * floor_ms / median, 1),
    }


def print_row(row: dict[str, object]) -> None:
    print(
        f"{row['arm']:>14}  batch {row['batch']:>4}  context {row['context']:>4}  {row['frame_ms']:>9} ms/frame"
        f"  ({row['frame_ms_min']}..{row['frame_ms_max']})  {row['frames_per_second']:>8} frames/s"
        f"  {row['percent_of_floor']:>5} % of floor",
        flush=True,
    )


def summary(
    arguments: argparse.Namespace, rows: list[dict[str, object]], bandwidth: float, device: torch.device
) -> dict[str, object]:
    rate = {(row["arm"], row["batch"]): float(str(row["frames_per_second"])) for row in rows}
    speedup = {
        str(batch): round(rate["ours", batch] / rate["reference", batch], 2)
        for batch in arguments.batches
        if ("reference", batch) in rate and ("ours", batch) in rate
    }
    single = rate.get(("reference", 1))
    aggregate = {
        str(batch): round(rate["ours", batch] / single, 2)
        for batch in arguments.batches
        if single and ("ours", batch) in rate
    }
    return {
        "benchmark": "frame_step",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "commit": commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "shape": arguments.shape,
        "dtype": arguments.dtype,
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "speedup_vs_reference": speedup,
        "aggregate_vs_reference_at_batch_1": aggregate,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
