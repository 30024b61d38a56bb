"""Options that the programs of the evaluation share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def chosen_parts(parser: argparse.ArgumentParser, given: str, known: Sequence[str]) -> list[str]:
    """The parts of `--parts`, which commas separate. Ends the program with an error where one is not known."""
    parts = given.split(",")
    if unknown := set(parts) - set(known):
        parser.error(f"--parts has {', '.join(sorted(unknown))}; the parts are {', '.join(known)}.")
    return parts
