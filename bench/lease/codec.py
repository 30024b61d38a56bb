"""Part of a lease: the codec on the device, by number of streams: captured steps, the same steps eager, the whole tick.

    python3 -m bench.lease.codec --batches 64,256,512,1024

At the published sizes, random weights, Mimi and the mark's convolutions in --dtype, after the gate of `bench.codec`.
Arms, each a codec frame of every stream:

* `mimi`, `mark`: the device's work alone, captured (the mark's step twice, as a codec frame needs it) and `eager`;
  `near` is what NEAR_ROWS rows near their start need besides, once;
* `mimi modules`: moshi's modules, as the codec ran on a GPU before;
* `both`: the codec's whole step, with the host's work (resampling, framing, level) and all copies. `tick_cpu_ms` is the
  host's CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from bench.codec import check_gate, first_audio, load_parts, make_row, measure
from bench.codec_arms import Arm, Both, Decode, Parts
from bench.lease.forms import release_memory
from bench.lease.options import numbers, opened, parser
from csm_bundle.runtime.captured import Captured
from csm_codec.mimi.batch.network import TAKES_PART, BatchNetwork
from csm_codec.watermark.embed.spectral_embedder import NEAR_ROWS, SpectralEmbedder
from tests.support.silentcipher_oracle import PackageOracle

MARKS_PER_FRAME = 2


class Steps:
    """Functions of the device alone, captured or eager."""

    frames = 1.0

    def __init__(self, functions: list[Callable[[], None]], device: torch.device, streams: int, *, eager: bool) -> None:
        self.streams = streams
        with torch.inference_mode():
            self._functions = functions if eager else [Captured(function, device) for function in functions]

    @torch.inference_mode()
    def run(self) -> None:
        for function in self._functions:
            function()


def step_arms(parts: Parts, batch: int) -> dict[str, Arm]:
    """The device's work by itself."""
    with torch.inference_mode():
        network = BatchNetwork(parts.mimi.model, parts.dtype)
        table, state, pcm = network.new_table(batch), network.new_state(batch), network.new_pcm(batch)
        table[:, network.num_codebooks + TAKES_PART] = 1
    embedder = SpectralEmbedder(parts.silentcipher, batch, parts.watermark_dtype, constant_shape=True)
    mimi = [lambda: network.step(table, state, pcm)]
    mark = [lambda: embedder._make_messages(batch), lambda: embedder._make_blocks(batch)] * MARKS_PER_FRAME
    device = parts.device
    return {
        "mimi": Steps(mimi, device, batch, eager=False),
        "mimi eager": Steps(mimi, device, batch, eager=True),
        "mark": Steps(mark, device, batch, eager=False),
        "mark eager": Steps(mark, device, batch, eager=True),
        "near": Steps([embedder._look_nearer], device, min(NEAR_ROWS, batch), eager=False),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batches", type=numbers, default=[64, 256, 512, 1024])
    options.add_argument("--bundle", default="", help="what is measured instead of the published sizes")
    options.add_argument("--frames", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--trials", type=int, default=10, help="streams whose first audio is awaited")
    arguments = options.parse_args()
    figures = opened("codec", arguments)
    wanted = argparse.Namespace(
        shape="bundle" if arguments.bundle else "published",
        bundle=arguments.bundle,
        device=str(arguments.device),
        dtype=arguments.dtype,
    )
    with tempfile.TemporaryDirectory() as scratch:
        loaded = load_parts(wanted, Path(scratch))
        oracle = PackageOracle.load(loaded.silentcipher_folder, device=str(arguments.device))
        figures.add(gate_difference=check_gate(loaded, oracle))
        parts = replace(loaded, watermark_dtype=loaded.dtype, constant_shape=True)
        kinds: tuple[Callable[[int], dict[str, Arm]], ...] = (
            lambda batch: step_arms(parts, batch),
            lambda batch: {"both": Both(parts, batch)},
            lambda batch: {"mimi modules": Decode(parts.in_bfloat16(modules=True), batch)},
        )
        for batch in arguments.batches:
            for kind in kinds:
                try:
                    for name, ticks in measure(kind(batch), arguments.frames, arguments.rounds, parts.device).items():
                        figures.add(**make_row(name, batch, ticks, parts.device))
                except torch.OutOfMemoryError as error:
                    figures.add(batch=batch, left_out=str(error).splitlines()[0])
                release_memory(parts.device)
        for look_ahead in ("full", "adaptive"):
            figures.add(first_audio=first_audio(parts, look_ahead, arguments.trials))


if __name__ == "__main__":
    main()
