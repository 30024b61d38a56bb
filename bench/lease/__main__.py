"""Spends one short lease of a GPU machine: runs parts in order of importance, each with a limit, until time is up.

    python3 -m bench.lease                                  # every part, at most nine minutes in all
    python3 -m bench.lease --parts smoke,serving --minutes 8
    python3 -m bench.lease --parts grid -- --forms plain,fused --batches 1,1024
    python3 -m bench.lease --rehearse                       # the same programs on a CPU at tiny shapes

Needs Python 3.12 with torch, triton, transformers and numpy, and in `.whl/` the wheels of `wheels/others.txt` where
they are not installed (for the part `service`: those of `wheels/service.txt` in `.whl-service/`, and the stubs in
`gen/`). Needs no network, git or virtual environment. Run it from the project's folder. Two files are written into
the folder of --out (or of the variable OUT): `figures.jsonl`, a line for each figure once it is measured, and
`parts.log`, all that the parts print. Arguments behind `--` go to every part that is run. The last line is one JSON
object with each part's result. The exit code is 0 when all parts ended well.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from bench.lease import figures
from bench.lease.parts import PARTS, Part, named
from bench.lease.wheels.installed import install

LEAST_S = 20.0  # a part is not started with less time than this
LEASE_MINUTES = 9.0  # all parts together, by default
REHEARSAL_MINUTES = 40.0  # the same in a rehearsal, which took 23 minutes on two busy cores
REHEARSED_PART_S = 900.0  # the limit of each part in a rehearsal; there the longest took five minutes
_KILL_AFTER_S = 5.0


def main() -> int:
    own, extra = _split(sys.argv[1:])
    arguments = parse_arguments(own)
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * arguments.minutes
    results: dict[str, dict[str, object]] = {}
    for part in arguments.parts:
        left_s = until - time.monotonic()
        if left_s < LEAST_S:
            results[part.name] = {"left_out": f"{left_s:.0f} s were left; {LEAST_S:.0f} are needed"}
            continue
        command = command_of(part, arguments.rehearse, folder / "figures.jsonl", extra)
        limit_s = REHEARSED_PART_S if arguments.rehearse else part.limit_s
        results[part.name] = run(part, command, min(left_s, limit_s), environment_of(part, arguments), folder)
        print(f"== {part.name}: {json.dumps(results[part.name])}", flush=True)
    ended_well = all(item.get("exit_code") == 0 for item in results.values())
    line = {"lease": "rehearsal" if arguments.rehearse else "gpu", "ended_well": ended_well, "parts": results}
    print(json.dumps(line))
    return 0 if ended_well else 1


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """(this program's arguments, the parts' arguments after `--`)"""
    return (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m bench.lease", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts",
        type=lambda text: named(text.split(",")),
        default=list(PARTS),
        help=", ".join(part.name for part in PARTS),
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"for all parts together (default: {LEASE_MINUTES:.0f}, {REHEARSAL_MINUTES:.0f} in a rehearsal)",
    )
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/lease")))
    parser.add_argument("--rehearse", action="store_true", help="on a CPU at tiny shapes")
    parser.add_argument("--site", type=Path, default=Path("/tmp/csm-lease-site"), help="where wheels are installed")
    arguments = parser.parse_args(words)
    if arguments.minutes is None:
        arguments.minutes = REHEARSAL_MINUTES if arguments.rehearse else LEASE_MINUTES
    return arguments


def environment_of(part: Part, arguments: argparse.Namespace) -> dict[str, str]:
    """A part's environment: its wheels' packages after the project's own, if their folder exists; kernels are compiled,
    in a rehearsal interpreted.
    """
    paths = [".", "gen/python", "clients/python"]
    kind = {"TRITON_INTERPRET": "0", "CSM_TEST_DEVICE": "cuda"}
    if arguments.rehearse:
        kind = {"TRITON_INTERPRET": "1", "CSM_TEST_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    if not arguments.rehearse and part.wheels.folder.is_dir():
        site = arguments.site / part.wheels.folder.name
        install(part.wheels.folder, site)
        paths.append(str(site))
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"} | kind
    if before := os.environ.get("PYTHONPATH"):
        paths.append(before)
    return environment | {"PYTHONPATH": ":".join(paths)}


def command_of(part: Part, rehearse: bool, file: Path, extra: list[str]) -> list[str]:
    arguments = part.rehearsed if rehearse else part.arguments
    return [sys.executable, *arguments, *(("--out", str(file)) if part.figures else ()), *extra]


def run(part: Part, command: list[str], limit_s: float, environment: dict[str, str], folder: Path) -> dict[str, object]:
    """Runs a part and returns its result. A part is ended when its time is up; its figures until then are kept."""
    before = len(figures.read(folder / "figures.jsonl"))
    began = time.monotonic()
    with (folder / "parts.log").open("a", buffering=1, encoding="utf-8") as log:
        log.write(f"== {part.name}: {' '.join(command)}\n")
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        timer = threading.Timer(limit_s, _end, [process])
        timer.start()
        last = ""
        assert process.stdout is not None
        with process.stdout:
            for text in process.stdout:
                log.write(text)
                sys.stdout.write(text)
                last = text.strip() or last
        exit_code = process.wait()
        timer.cancel()
    seconds = time.monotonic() - began
    return {
        "exit_code": exit_code,
        "seconds": round(seconds, 1),
        "timed_out": seconds >= limit_s,
        "figures": len(figures.read(folder / "figures.jsonl")) - before,
        "last_line": last[:300],
    }


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a part, first as Ctrl-C does, so that tests still print what failed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    sys.exit(main())
