"""The fields of sampling are the same from the public proto to the device, and their limits stand once."""

from __future__ import annotations

from dataclasses import fields

import pytest
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2
from csm_client.tables.sampling import SAMPLING, SamplingOptions
from google.protobuf.descriptor import FieldDescriptor

from csm_bundle.sampling import LARGEST_INTEGER, LIMITS, RecommendedSampling, SamplingParams
from csm_engine.execution.sampling import SamplingRows
from services.gateway.settings import GatewaySettings

FIELDS = [field.name for field in fields(SamplingParams)]


def test_every_layer_has_the_same_fields() -> None:
    public, engine = (message.DESCRIPTOR.fields for message in (tts_pb2.SamplingParams, engine_pb2.SamplingParams))
    assert [field.name for field in public] == FIELDS
    assert [(field.name, field.number, field.type) for field in engine] == [
        (field.name, field.number, field.type) for field in public
    ]
    assert list(LIMITS) == [field.name for field in fields(SamplingRows)] == FIELDS
    assert [field.name for field in fields(RecommendedSampling)] == [name for name in FIELDS if name != "seed"]


def test_the_client_has_the_same_fields_and_documents_their_ranges() -> None:
    assert list(SAMPLING) == list(SamplingOptions.__annotations__) == FIELDS
    assert {name: option.allowed for name, option in SAMPLING.items()} == {
        name: str(limits) for name, limits in LIMITS.items()
    }
    types = {field.name: field.type for field in tts_pb2.SamplingParams.DESCRIPTOR.fields}
    bits = {FieldDescriptor.TYPE_FLOAT: 0, FieldDescriptor.TYPE_INT32: 32, FieldDescriptor.TYPE_INT64: 64}
    assert {name: option.bits for name, option in SAMPLING.items()} == {
        name: bits[kind] for name, kind in types.items()
    }


def test_every_field_that_is_not_drawn_has_a_setting_of_its_range() -> None:
    for name in (field.name for field in fields(RecommendedSampling)):
        setting = GatewaySettings.model_fields[f"default_{name}"]
        bounds = {type(bound).__name__: getattr(bound, type(bound).__name__.lower()) for bound in setting.metadata}
        assert bounds == {"Ge": LIMITS[name].least, "Le": LIMITS[name].most}


@pytest.mark.parametrize("name", FIELDS)
def test_defaults_are_allowed_and_the_field_holds_every_allowed_value(name: str) -> None:
    limits = LIMITS[name]
    assert limits.allow(getattr(SamplingParams(), name))
    assert not limits.allow(limits.least - 1) and not limits.allow(limits.most + 1)
    for value in (limits.least, limits.most):
        assert limits.fit_sampler(value)
        assert getattr(tts_pb2.SamplingParams(**{name: limits.kind(value)}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.1])
def test_the_sampler_refuses_values_that_are_no_temperature(value: float) -> None:
    assert not LIMITS["temperature"].allow(value) and not LIMITS["temperature"].fit_sampler(value)


def test_as_many_candidates_as_the_codec_has_codes() -> None:
    assert [LIMITS["top_k"].at(64).allow(value) for value in (0, 1, 64, 65)] == [False, True, True, False]
    assert str(LIMITS["top_k"].at(64)) == "1 to 64" and str(LIMITS["seed"]) == "at least 0"
    assert not LIMITS["top_k"].fit_sampler(LARGEST_INTEGER + 1)
