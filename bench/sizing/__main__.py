"""From the kept measurements to a fleet: docs/sizing.md.

    python -m bench.sizing --write                                # the page, after new results
    python -m bench.sizing --listeners 5000 --gpu-hour 2.5 --core-hour 0.04 --gigabyte 0.05

Every figure comes from a file in bench/results and is named with it. It measures nothing, and what no file has it names
as not measured. Prices are variables: none is known here. It needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.command import parser_of
from bench.sizing.fleet import Measured, fleet, minute
from bench.sizing.page import page

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "sizing.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = parser_of("bench.sizing", __doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--listeners", type=int, help="the fleet for so many streams at the same moment")
    parser.add_argument("--gpu-hour", type=float, default=0.0, help="price of a GPU for an hour")
    parser.add_argument("--core-hour", type=float, default=0.0, help="price of a CPU core for an hour")
    parser.add_argument("--gigabyte", type=float, default=0.0, help="price of a gigabyte to callers")
    options = parser.parse_args(arguments)
    try:
        measured = Measured.read(options.results)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.write:
        PAGE.write_text(page(measured), encoding="utf-8")
    if options.listeners is not None:
        print(fleet(options.listeners, measured))
    if options.gpu_hour or options.core_hour or options.gigabyte:
        cost = minute(measured).cost(options.gpu_hour, options.core_hour, options.gigabyte)
        print(f"a minute of speech costs {cost:.3g}")
    if not (
        options.write or options.listeners is not None or options.gpu_hour or options.core_hour or options.gigabyte
    ):
        print(page(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
