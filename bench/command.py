"""What the command lines of the benchmarks have in common. It imports no torch."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path


def parser_of(module: str, description: str | None) -> ArgumentParser:
    """A parser for `python -m module`. Its help keeps the description's line breaks."""
    return ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=RawDescriptionHelpFormatter
    )


def result_parser(module: str, description: str | None) -> ArgumentParser:
    """The same with --note and --out, which all programs have that write a result with a note."""
    parser = parser_of(module, description)
    parser.add_argument("--note", default="", help="what a reader has to know, for the JSON")
    parser.add_argument("--out", type=Path, help="file for the JSON, such as bench/results/serving_h200.json")
    return parser


def integers(text: str) -> list[int]:
    """ "1,64" as a list."""
    return [int(item) for item in text.split(",")]


def numbers(text: str) -> list[float]:
    """ "0,0.5" as a list."""
    return [float(item) for item in text.split(",")]


def words(text: str) -> list[str]:
    """ "plain,fused" as a list."""
    return text.split(",")
