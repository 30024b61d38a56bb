"""The sampling of requests that set none: the operator's choice, else the bundle's, else the published reference's."""

from __future__ import annotations

from csm.v1 import tts_pb2

from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog

REFERENCE_TEMPERATURE, REFERENCE_TOP_K = 0.9, 50  # github.com/SesameAILabs/csm generator.py


def default_sampling(catalog: Catalog, settings: GatewaySettings) -> tts_pb2.SamplingParams:
    """Temperature and top_k; the seed is not set."""
    recommended = catalog.model.recommended_sampling_params
    temperature, top_k = settings.default_temperature, settings.default_top_k
    if temperature is None:
        temperature = recommended.temperature if recommended.HasField("temperature") else REFERENCE_TEMPERATURE
    if top_k is None:
        top_k = recommended.top_k if recommended.HasField("top_k") else REFERENCE_TOP_K
    return tts_pb2.SamplingParams(temperature=temperature, top_k=top_k)
