"""THE client's table of sampling: what a request may set, its range and its effect. The server checks the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

LARGEST_FLOAT = 3.4028234663852886e38  # that has 32 bits, as other numbers than whole ones have on the wire


class SamplingOptions(TypedDict, total=False):
    """What a request may set, by the names of csm.v1.SamplingParams."""

    temperature: float
    top_k: int
    seed: int


@dataclass(frozen=True, slots=True)
class SamplingOption:
    """One row of the table. bits: of a whole number on the wire; 0 for other numbers"""

    bits: int
    allowed: str
    meaning: str


SAMPLING: Mapping[str, SamplingOption] = {
    "temperature": SamplingOption(0, "0 to 2", "0 is greedy"),
    "top_k": SamplingOption(32, "1 to 2048", "candidates kept per code"),
    "seed": SamplingOption(64, "at least 0", "the same seed gives the same audio"),
}
