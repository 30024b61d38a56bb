"""Part of a lease: the codec on the device, by number of streams: captured steps, the same steps eager, the whole tick.

    python3 -m bench.lease.codec --batches 64,256,512,1024

At the published sizes, random weights, Mimi and the mark's convolutions in --dtype, after the gate of `bench.codec`:
where it fails, the rows say so. What fails otherwise is told in a line of its own, and the part goes on.
Arms, each a codec frame of every stream:

* `mimi`, `mark`: the device's work alone, captured (the mark's step twice, as a codec frame needs it) and `eager`;
  `near` is what NEAR_ROWS rows near their start need besides, once;
* `mimi modules`: moshi's modules, as the codec ran on a GPU before;
* `both`: the codec's whole step, with the host's work (resampling, framing, level) and all copies. `tick_cpu_ms` is the
  host's CPU time.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from bench.codec import check_gate, first_audio, load_parts, make_row, measure
from bench.codec_arms import Arm, Both, Decode, Parts
from bench.command import integers
from bench.lease.forms import release_memory
from bench.lease.options import opened, parser
from bench.timing import DTYPES
from csm_bundle.runtime.captured import Captured, graph_pool
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
            pool = graph_pool(device)
            self._functions = functions if eager else [Captured(function, device, pool) for function in functions]

    @torch.inference_mode()
    def run(self) -> None:
        for function in self._functions:
            function()


def mimi_arms(parts: Parts, batch: int) -> dict[str, Arm]:
    """The device's work by itself."""
    with torch.inference_mode():
        network = BatchNetwork(parts.mimi.model, parts.dtype)
        table, state, pcm = network.new_table(batch), network.new_state(batch), network.new_pcm(batch)
        table[:, network.num_codebooks + TAKES_PART] = 1
    functions: list[Callable[[], None]] = [lambda: network.step(table, state, pcm)]
    return {
        "mimi": Steps(functions, parts.device, batch, eager=False),
        "mimi eager": Steps(functions, parts.device, batch, eager=True),
    }


def mark_arms(parts: Parts, batch: int) -> dict[str, Arm]:
    """The device's work by itself."""
    embedder = SpectralEmbedder(parts.silentcipher, batch, parts.watermark_dtype, constant_shape=True)
    functions = [lambda: embedder._make_messages(batch), lambda: embedder._make_blocks(batch)] * MARKS_PER_FRAME
    return {
        "mark": Steps(functions, parts.device, batch, eager=False),
        "mark eager": Steps(functions, parts.device, batch, eager=True),
        "near": Steps([embedder._look_nearer], parts.device, min(NEAR_ROWS, batch), eager=False),
    }


ARMS: dict[str, Callable[[Parts, int], dict[str, Arm]]] = {
    "mimi": mimi_arms,
    "mark": mark_arms,
    "both": lambda parts, batch: {"both": Both(parts, batch)},
    "mimi modules": lambda parts, batch: {"mimi modules": Decode(parts.in_bfloat16(modules=True), batch)},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batches", type=integers, default=[64, 256, 512, 1024])
    options.add_argument("--bundle", default="", help="what is measured instead of the published sizes")
    options.add_argument("--frames", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--trials", type=int, default=10, help="streams whose first audio is awaited")
    arguments = options.parse_args()
    figures = opened("codec", arguments)
    failed: list[str] = []

    @contextmanager
    def told(**what: object) -> Iterator[None]:
        """A line for what fails inside: a machine is there for a short time, and what comes next may run."""
        try:
            yield
        except (Exception, SystemExit) as error:
            failed.append(f"{what} failed: {type(error).__name__}: {error}".splitlines()[0][:300])
            figures.add(**what, failed=failed[-1])
            traceback.print_exc()
        release_memory(arguments.device)

    with tempfile.TemporaryDirectory() as scratch:
        loaded = load_parts(arguments.bundle, arguments.device, DTYPES[arguments.dtype], Path(scratch))
        with told(what="gate"):
            oracle = PackageOracle.load(loaded.silentcipher_folder, device=str(arguments.device))
            figures.add(gate_difference=check_gate(loaded, oracle))
        gate = {"gate": "failed"} if failed else {}
        parts = replace(loaded, watermark_dtype=loaded.dtype, constant_shape=True)

        def rows(what: str, batch: int) -> None:
            with told(what=what, batch=batch):
                turns = measure(ARMS[what](parts, batch), arguments.frames, arguments.rounds, parts.device)
                for name, ticks in turns.items():
                    figures.add(**make_row(name, batch, ticks, parts.device), **gate)

        for batch in arguments.batches:
            for what in ("mimi", "mark", "both"):
                rows(what, batch)
        for look_ahead in ("full", "adaptive"):
            with told(what="first audio", look_ahead=look_ahead):
                figures.add(first_audio=first_audio(parts, look_ahead, arguments.trials), **gate)
        for batch in arguments.batches:
            rows("mimi modules", batch)
    if failed:
        sys.exit(failed[0])


if __name__ == "__main__":
    main()
