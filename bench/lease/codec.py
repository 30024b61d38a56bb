"""Part of a lease: the codec on the device. Mimi, the watermark and both, by number of streams.

    python3 -m bench.lease.codec --batches 1,16,64,256

Arms, gate and timing are those of `bench.codec` at the published sizes, without the arms of other implementations.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from bench.codec import check_gate, first_audio, load_parts, make_row, measure
from bench.codec_arms import Arm, Both, Decode, Mark
from bench.lease.forms import release_memory
from bench.lease.options import numbers, opened, parser
from tests.support.silentcipher_oracle import PackageOracle


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batches", type=numbers, default=[1, 16, 64, 256])
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
        parts = load_parts(wanted, Path(scratch))
        oracle = PackageOracle.load(parts.silentcipher_folder, device=str(arguments.device))
        figures.add(gate_difference=check_gate(parts, oracle))
        for batch in arguments.batches:
            try:
                arms: dict[str, Arm] = {
                    "decode": Decode(parts, batch),
                    "watermark": Mark(parts, batch),
                    "both": Both(parts, batch),
                }
                for name, ticks in measure(arms, arguments.frames, arguments.rounds, parts.device).items():
                    figures.add(**make_row(name, batch, ticks, parts.device))
            except torch.OutOfMemoryError as error:
                figures.add(batch=batch, left_out=str(error).splitlines()[0])
            arms = {}
            release_memory(parts.device)
        for look_ahead in ("full", "adaptive"):
            figures.add(first_audio=first_audio(parts, look_ahead, arguments.trials))


if __name__ == "__main__":
    main()
