"""Options, logs and exit code of the programs that disturb a deployment."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.command import result_parser
from bench.deployment.run import run_program
from bench.report import write_result

Result = dict[str, Any]


def deployment_parser(module: str, description: str | None) -> ArgumentParser:
    """A parser with the options that all programs have."""
    parser = result_parser(module, description)
    parser.add_argument("--bundle", type=Path, default=Path("build/bundles/tiny"))
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--logs", type=Path, help="folder for the processes' logs; nowhere when not given")
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


def judged_run(
    run: Callable[[Namespace], Coroutine[Any, Any, Result]],
    why_not_passed: Callable[[Result], Sequence[str]],
    options: Namespace,
) -> int:
    """Runs the program, prints its result, writes it to --out, and returns the exit code.

    why_not_passed: the reasons why a run did not pass; none for a pass.
    """
    result = run_program(run(options))
    if wrong := why_not_passed(result):
        print(f"not passed: {'; '.join(wrong)}", file=sys.stderr)
    write_result(result, options.out)
    return 1 if wrong else 0
