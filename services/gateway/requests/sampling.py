"""The sampling parameters of a request, with defaults filled in.

A field comes from the request, else the operator's settings, else the bundle, else the library. Fields are copied by
name, so a new field needs no change here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, fields

from csm.v1 import tts_pb2

from csm_bundle.sampling import LIMITS, RecommendedSampling, SamplingParams
from services.common.values import set_fields
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog

DRAWN_SEEDS = 2**32  # short to type, and an exact number in every language


def default_sampling(catalog: Catalog, settings: GatewaySettings) -> tts_pb2.SamplingParams:
    """The defaults of all fields except the seed, which is random."""
    recommended, library = set_fields(catalog.model.recommended_sampling_params), asdict(SamplingParams())
    defaults = tts_pb2.SamplingParams()
    for name in (field.name for field in fields(RecommendedSampling)):
        chosen = getattr(settings, f"default_{name}")
        setattr(defaults, name, recommended.get(name, library[name]) if chosen is None else chosen)
    return defaults


def read_sampling(
    given: tts_pb2.SamplingParams,
    catalog: Catalog,
    settings: GatewaySettings,
    wrong: Callable[[str, str], None],
    voice_seed: int | None,
) -> SamplingParams:
    """The sampling of a request. wrong: called with each refused field and the reason.

    voice_seed: the default seed; None draws a random one.
    """
    seed = secrets.randbelow(DRAWN_SEEDS) if voice_seed is None else voice_seed
    values = {"seed": seed, **set_fields(default_sampling(catalog, settings))}
    values |= set_fields(given)
    for name, value in values.items():
        limits = LIMITS[name].at(catalog.identity.codebook_size)
        if not limits.allow(value):
            shown = f"{value:g}" if limits.kind is float else str(value)
            wrong(f"sampling_params.{name}", f"is {shown}; it must be {limits}.")
    return SamplingParams(**values)
