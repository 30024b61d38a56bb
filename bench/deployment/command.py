"""Options, logs and exit code of the programs that disturb a deployment."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.report import write_result


def parser_of(program: str, description: str | None) -> ArgumentParser:
    """A parser with the options that all programs have."""
    parser = ArgumentParser(prog=program, description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("build/bundles/tiny"))
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--logs", type=Path, help="folder for the processes' logs; nowhere when not given")
    parser.add_argument("--note", default="", help="what a reader has to know, for the JSON")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    return parser


@contextmanager
def log_folder(options: Namespace) -> Iterator[Path]:
    """The folder that --logs names, or a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def left_behind(result: Mapping[str, Any]) -> list[str]:
    """What a run left behind and must not: tracebacks in logs, taken slots.

    result: has `tracebacks` and `slots`, both by process.
    """
    wrong = []
    if any(result["tracebacks"].values()):
        wrong.append(f"tracebacks in the logs: {result['tracebacks']}")
    if any(value for gauges in result["slots"].values() for value in gauges.values()):
        wrong.append(f"slots are still taken: {result['slots']}")
    return wrong


def finish(result: Mapping[str, Any], wrong: Sequence[str], options: Namespace) -> int:
    """Prints the result, writes it to --out, and returns the exit code. wrong: why the run did not pass."""
    if wrong:
        print(f"not passed: {'; '.join(wrong)}", file=sys.stderr)
    write_result(result, options.out)
    return 1 if wrong else 0
