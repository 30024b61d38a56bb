"""Sampling: the fields, their defaults and their limits, declared in this one place.

The engine and the gateway check requests by it, the manifest what a bundle recommends. Defaults are those of
github.com/SesameAILabs/csm generator.py. A field has the same name here, in csm.v1.SamplingParams and in
csm.engine.v1.SamplingParams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

Number = int | float


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How codes are sampled. The same seed gives the same codes in any batch."""

    temperature: float = 0.9  # 0 is greedy
    top_k: int = 50  # keeps all ties at the k-th place; a k above the number of codes keeps all codes
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RecommendedSampling:
    """What a bundle recommends for its model; None where it recommends nothing."""

    temperature: float | None = None
    top_k: int | None = None

    def given(self) -> dict[str, Any]:
        """The fields that the bundle sets, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True)
class Limits:
    """The values of a field that callers, operators and bundles may choose.

    ends_at_codebook: the upper limit is the codec's number of codes; `most` is used where the codec is not known.
    """

    kind: type[Number]
    least: Number
    most: Number
    ends_at_codebook: bool = False

    def at(self, codebook_size: int) -> Limits:
        """The limits for a model whose codec has that many codes."""
        return replace(self, most=codebook_size) if self.ends_at_codebook else self

    def allow(self, value: Number) -> bool:
        """False for NaN as well."""
        return self.least <= value <= self.most

    def fit_sampler(self, value: Number) -> bool:
        """Whether the sampler can use the value. It has no upper limit but that of its integers."""
        return math.isfinite(value) and self.least <= value and (self.kind is float or value <= LARGEST_INTEGER)

    def __str__(self) -> str:
        """ "0 to 2", "at least 0" """
        return f"at least {self.least}" if self.most == LARGEST_INTEGER else f"{self.least} to {self.most}"


LARGEST_INTEGER = 2**63 - 1  # of int64, in which the device has them

LIMITS: Mapping[str, Limits] = {
    "temperature": Limits(float, 0, 2),
    "top_k": Limits(int, 1, 2048, ends_at_codebook=True),
    "seed": Limits(int, 0, LARGEST_INTEGER),
}
