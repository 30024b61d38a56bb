"""Codec benchmark: how many streams one core (or one GPU) decodes and watermarks in real time, and what the mark costs.

    python -m bench.codec --batches 1,4,8,16                  # the built-in voice
    python -m bench.codec --shape published --batches 1,4,8   # random weights of the published sizes
    python -m bench.codec --shape published --batches 8 --arms "both;decode;watermark"      # what the defaults give
    python -m bench.codec --batches 4,16 --threads 2 --arms "both;both, in threads"   # what several cores give
    python -m bench.codec --shape published --device cuda --dtype bfloat16 --batches 1,16,64,256

First a gate: our mark of a clip must equal the package's own (to 1e-6 of full scale). If the gate fails, there are no
figures. Then the arms take turns, ABBA, for some rounds in one process. The arms named "modules" have moshi's modules
for Mimi, in lanes of four on a CPU, as the codec stage had them before csm_codec/mimi/cpu. "Both, in threads" has a
codec in each of --threads threads, as the codec stage; in the others torch spreads its operations over them. A tick is
one step of the codec: 80 ms of audio of every stream. On a CPU the figures are CPU time of the process, which other
processes disturb less than wall time; wall time is given too.
Then it measures the delay of first audio that the mark adds, and how near Mimi and the mark in bfloat16 are to float32.
Prints tables; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.codec_arms import (
    KEY,
    UTTERANCE_S,
    Arm,
    Both,
    BothInThreads,
    Decode,
    Mark,
    PackageMark,
    Parts,
    StatelessChunks,
)
from bench.codec_precision import bfloat16_mark_snr_db, bfloat16_snr
from bench.command import integers, parser_of
from bench.machine import commit, cpu_name
from bench.timing import DTYPES, in_turns, synchronize
from csm_bundle.bundle import open_bundle
from csm_codec.stream import Audio
from csm_codec.watermark.embed.embedder import mark_clip
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.stream.look_ahead import ADAPTIVE, FULL, LookAhead
from tests.support.silentcipher_oracle import PackageOracle
from tests.support.tiny.published import MIMI, SILENTCIPHER, write_published_codec

FRAME_MS = 80.0
RATE_HZ = 24000  # of the clip that the mark is compared on
ARMS = (
    "decode", "decode bfloat16", "decode, modules bfloat16", "watermark", "watermark bfloat16", "both", "both bfloat16",
    "both, modules bfloat16", "both, in threads", "stateless decode", "package watermark",
)  # fmt: skip


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        parts = load_parts(bundle_of(arguments), arguments.device, DTYPES[arguments.dtype], Path(scratch))
        oracle = PackageOracle.load(parts.silentcipher_folder, device=arguments.device)
        gate = check_gate(parts, oracle)
        near = how_near(parts) if any("bfloat16" in name for name in arguments.arms) else {}
        makers = arm_makers(parts, oracle)
        rows = []
        for batch in arguments.batches:
            arms = {name: makers[name](batch) for name in arguments.arms}
            turns = measure(arms, arguments.frames, arguments.rounds, parts.device)
            for name, ticks in turns.items():
                rows.append(make_row(name, batch, ticks, parts.device))
                print_row(rows[-1])
                arm = arms[name]
                if isinstance(arm, Both):
                    rows[-1]["watermark_share"] = round(arm.watermark_share(), 3)
                    print(f"{name:>24}  the watermark takes {arm.watermark_share():.0%} of the tick")
        first = [first_audio(parts, name, arguments.trials) for name in ("full", "adaptive")]
        for row in first:
            print(
                f"first audio, {row['look_ahead']} look-ahead: after {row['frames']} frames, {row['held_back_ms']} ms"
                f" held back; added p50/p95 {row['added_ms_frames_at_once']} ms with all frames there,"
                f" {row['added_ms_frames_in_real_time']} ms with frames in real time"
            )
    print(json.dumps(summary(arguments, parts, gate, near, rows, first)))


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("bench.codec", __doc__)
    parser.add_argument("--shape", choices=("bundle", "published"), default="bundle")
    parser.add_argument("--bundle", default="bundles/builtin", help="what --shape bundle measures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the decoder")
    parser.add_argument("--batches", type=integers, default=[1, 4, 8, 16])
    parser.add_argument("--frames", type=int, default=16, help="frames per turn of an arm, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20, help="streams whose first audio is awaited")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch; 0 leaves it to torch")
    parser.add_argument("--arms", type=lambda text: text.split(";"), default=ARMS, help="; between: " + "; ".join(ARMS))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.arms if name not in ARMS]:
        parser.error(f"--arms: there is no arm {unknown[0]!r}; there are {'; '.join(ARMS)}")
    return arguments


def arm_makers(parts: Parts, oracle: PackageOracle) -> dict[str, Callable[[int], Arm]]:
    """For each arm, a function that makes it for a batch. All arms in bfloat16 share networks, loaded on first use."""
    in_bfloat16 = cache(parts.in_bfloat16)
    return {
        "decode": lambda batch: Decode(parts, batch),
        "decode bfloat16": lambda batch: Decode(in_bfloat16(), batch),
        "decode, modules bfloat16": lambda batch: Decode(in_bfloat16(modules=True), batch),
        "watermark": lambda batch: Mark(parts, batch),
        "watermark bfloat16": lambda batch: Mark(in_bfloat16(), batch),
        "both": lambda batch: Both(parts, batch),
        "both bfloat16": lambda batch: Both(in_bfloat16(), batch),
        "both, modules bfloat16": lambda batch: Both(in_bfloat16(modules=True), batch),
        "both, in threads": lambda batch: BothInThreads(parts, batch),
        "stateless decode": lambda batch: StatelessChunks(parts, batch),
        "package watermark": lambda _: PackageMark(parts, oracle),
    }


def how_near(parts: Parts) -> dict[str, object]:
    """How far Mimi and the watermark in bfloat16 are from float32."""
    bfloat16 = bfloat16_snr(parts.mimi_path, parts.device)
    print(f"Mimi in bfloat16: {bfloat16['snr_db']} dB, at least {bfloat16['least_frame_snr_db']} dB in a frame")
    mark_snr_db = bfloat16_mark_snr_db(parts.silentcipher, parts.noise(UTTERANCE_S, RATE_HZ), RATE_HZ)
    print(f"The mark in bfloat16: {mark_snr_db} dB")
    return {"bfloat16_decode": bfloat16, "bfloat16_mark_snr_db": mark_snr_db}


def bundle_of(arguments: argparse.Namespace) -> str:
    """ "" for the published sizes."""
    bundle: str = arguments.bundle if arguments.shape == "bundle" else ""
    return bundle


def load_parts(bundle: str, device: str | torch.device, dtype: torch.dtype, scratch: Path) -> Parts:
    """bundle: "" for random weights of the published sizes, which are written into the folder `scratch`."""
    if bundle:
        return Parts.of_bundle(bundle, device, dtype)
    write_published_codec(scratch)
    return Parts.load(scratch / MIMI, scratch / SILENTCIPHER, device, dtype)


def check_gate(parts: Parts, oracle: PackageOracle) -> float:
    """Largest difference between our mark of a clip and the package's."""
    rate_hz = parts.silentcipher.hparams.sample_rate_hz
    clip = parts.noise(UTTERANCE_S, rate_hz)
    ours = mark_clip(parts.silentcipher, clip, rate_hz, frame_symbols(KEY.payload), oracle.level(clip))
    difference = float(np.abs(ours - oracle.embed(clip, KEY.payload)).max())
    needed = 1e-6 if parts.device.type == "cpu" else 1e-4
    if not difference < needed:
        sys.exit(f"gate: our mark differs from the package's by {difference}; no figures")
    return difference


def measure(
    arms: Mapping[str, Arm], frames: int, rounds: int, device: torch.device
) -> dict[str, list[tuple[float, float]]]:
    """For each arm and turn, (wall, CPU) milliseconds per frame of one stream."""
    for arm in arms.values():
        arm.run()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    gc.collect()
    gc.freeze()  # collections skip what is there, as in a stage that has loaded
    for name in in_turns(arms, rounds):
        arm = arms[name]
        calls = max(1, round(frames / arm.frames))
        synchronize(device)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            arm.run()
        synchronize(device)
        scale = 1000 / (calls * arm.frames * arm.streams)
        taken[name].append(((time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale))
    gc.unfreeze()
    return taken


def make_row(arm: str, batch: int, turns: list[tuple[float, float]], device: torch.device) -> dict[str, object]:
    wall_ms, cpu_ms = (statistics.median(column) for column in zip(*turns, strict=True))
    busy_ms = cpu_ms if device.type == "cpu" else wall_ms
    return {
        "arm": arm,
        "batch": batch,
        "tick_ms": round(batch * busy_ms, 2),
        "tick_wall_ms": round(batch * wall_ms, 2),
        "tick_cpu_ms": round(batch * cpu_ms, 2),
        "stream_frame_ms": round(busy_ms, 3),
        "streams_in_real_time": round(FRAME_MS / busy_ms, 1),
    }


def print_row(row: Mapping[str, object]) -> None:
    print(
        f"{row['arm']:>24}  batch {row['batch']:>4}  {row['tick_ms']:>9} ms/tick  (wall {row['tick_wall_ms']})"
        f"  {row['stream_frame_ms']:>8} ms per stream and frame  {row['streams_in_real_time']:>7} streams",
        flush=True,
    )


def first_audio(parts: Parts, name: str, trials: int) -> dict[str, object]:
    """How much later a stream's first audio comes because of the watermark."""
    looks: dict[str, LookAhead] = {"full": FULL, "adaptive": ADAPTIVE}
    codec = parts.codec(1, looks[name])
    at_once, in_real_time = [], []
    frames = samples = 0
    for trial in range(trials + 1):
        stream, samples = codec.open(), 0
        codes = parts.codes(32, seed=trial)
        began = time.perf_counter()
        first_frame_s = 0.0
        while not samples:
            codec.push(stream, codes[stream.num_frames, None])
            samples = sum(len(output.pcm) for output in codec.step() if isinstance(output, Audio))
            first_frame_s = first_frame_s or stream.decode_s
        added_ms = 1000 * (time.perf_counter() - began - first_frame_s)
        frames = stream.num_frames
        codec.cancel(stream)
        if trial:  # the first one is a warm-up
            at_once.append(added_ms)
            in_real_time.append(FRAME_MS * (frames - 1) + added_ms / frames)  # earlier frames' work is done meanwhile
    return {
        "look_ahead": name,
        "frames": frames,
        "held_back_ms": round(
            1000 * (frames * parts.frame_samples - samples) / parts.mimi.identity.sample_rate_hertz, 1
        ),
        "added_ms_frames_at_once": percentiles(at_once),
        "added_ms_frames_in_real_time": percentiles(in_real_time),
    }


def percentiles(values: list[float]) -> list[float]:
    """p50 and p95."""
    return [round(float(value), 1) for value in np.percentile(values, (50, 95))]


def summary(
    arguments: argparse.Namespace,
    parts: Parts,
    gate: float,
    near: dict[str, object],
    rows: list[dict[str, object]],
    first: list[dict[str, object]],
) -> dict[str, object]:
    cost = {(row["arm"], row["batch"]): float(str(row["stream_frame_ms"])) for row in rows}

    def ratio(slow: str, fast: str) -> dict[str, float]:
        pairs = [(batch, (slow, batch), (fast, batch)) for batch in arguments.batches]
        return {str(batch): round(cost[a] / cost[b], 2) for batch, a, b in pairs if a in cost and b in cost}

    on_gpu = parts.device.type == "cuda"
    return {
        "benchmark": "codec",
        "device": torch.cuda.get_device_name(parts.device) if on_gpu else cpu_name(),
        "note": "" if on_gpu else "Shared machine; CPU time of one process, so cores are those that it really had.",
        "commit": commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "shape": open_bundle(bundle).name if (bundle := bundle_of(arguments)) else "published",
        "dtype": arguments.dtype,
        "watermark_scheme": parts.silentcipher.scheme,
        "gate_difference": gate,
        "watermark_speedup_vs_package": ratio("package watermark", "watermark"),
        "decode_cost_vs_stateless": ratio("decode", "stateless decode"),
        "decode_speedup_vs_modules": ratio("decode, modules bfloat16", "decode bfloat16"),
        "speedup_vs_modules": ratio("both, modules bfloat16", "both bfloat16"),
        **near,
        "first_audio": first,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
