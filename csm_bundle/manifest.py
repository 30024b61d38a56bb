"""Reads and checks a `bundle.json`. It opens no other file and never uses the network.

Every mistake is one BundleError that names the file, the line or key, the given value and what is allowed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, BeforeValidator, Strict, TypeAdapter, ValidationError, ValidationInfo

from csm_bundle.checked_json import NOT_JSON, Name, Seed, Speaker, Text, first_problem, keys, named_once, needed, refuse
from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import BundleError
from csm_bundle.hub import HubReference, checked_relative_path
from csm_bundle.sampling import LARGEST_INTEGER, LIMITS, RecommendedSampling

FORMAT = 1
MIN_SDR_DB, MAX_SDR_DB = 10.0, 80.0  # audio over watermark: below it is audible noise, above it cannot be detected
PARTS = ("model", "tokenizer", "mimi", "silentcipher", "lexicon", "voices")

_Decibels = Annotated[
    float,
    Strict(),
    Ge(MIN_SDR_DB),
    Le(MAX_SDR_DB),
    needed(f"decibels from {MIN_SDR_DB:g} to {MAX_SDR_DB:g} are needed"),
]


@dataclass(frozen=True, slots=True)
class Voice:
    """A name that callers may use for one of the model's speakers."""

    name: Name
    speaker: Speaker
    language_codes: Annotated[tuple[Name, ...], needed("a list is needed")] = ()  # BCP-47
    description: Text = ""
    seed: Seed | None = None  # of requests that set none; None: each such request gets a random one


def _unique_names(voices: tuple[Voice, ...]) -> tuple[Voice, ...]:
    names = [voice.name for voice in voices]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise refuse("each name may be used once", index, "name", given=name)
    return voices


def _located(parts: dict[str, str], info: ValidationInfo) -> dict[str, HubReference | str]:
    """Raises BundleError. The validation's context is the path of the file."""
    return {name: _location(text, f"{info.context}: parts.{name}") for name, text in parts.items()}


def _location(text: str, where: str) -> HubReference | str:
    return HubReference.parse(text, where) if text.startswith("hf:") else checked_relative_path(text, where)


def _of_this_format(content: dict[str, object]) -> dict[str, object]:
    found = content.pop("format")
    if found != FORMAT:
        raise refuse(f"{FORMAT} is the only format known", "format", given=found)
    return content


def _recommended(sampling: dict[str, object]) -> RecommendedSampling:
    values = {name: _sampling_value(name, value) for name, value in sampling.items() if value is not None}
    return RecommendedSampling(**values)


def _sampling_value(name: str, value: object) -> Any:
    """The value of a sampling field, of the field's type. The codec's number of codes is not known here."""
    limits = LIMITS[name].at(LARGEST_INTEGER)
    whole = limits.kind is int
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not limits.allow(value):
        noun, link = "whole number" if whole else "number", "of" if limits.most == LARGEST_INTEGER else "from"
        raise refuse(f"a {noun} {link} {limits} is needed", name, given=value)
    return limits.kind(value)


_Sampling = Annotated[
    RecommendedSampling,
    BeforeValidator(_recommended),
    keys((), tuple(field.name for field in fields(RecommendedSampling))),
]
_Codec = Annotated[
    CodecIdentity,
    BeforeValidator(lambda codec: {"weights_digest": ""} | codec),
    keys(("name", "codebook_count", "codebook_size", "frame_sample_count", "sample_rate_hertz"), ("weights_digest",)),
]
_Voices = Annotated[
    tuple[Annotated[Voice, keys(("name", "speaker"), ("language_codes", "description", "seed"))], ...],
    MinLen(1),
    AfterValidator(_unique_names),
    needed("at least one voice is needed"),
]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of one bundle.json. A part is a hub reference or a path relative to the file."""

    name: Name
    version: Name
    voices: _Voices
    parts: Annotated[dict[str, Name], keys((), PARTS), AfterValidator(_located)]
    notice: Text = ""
    codec: _Codec | None = None
    sampling: _Sampling = RecommendedSampling()
    text_frontend: Text = ""
    message_sdr_db: _Decibels | None = None  # of the watermark; that of the watermark's hparams.yaml when None


_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(
    Annotated[
        Manifest,
        BeforeValidator(_of_this_format),
        keys(
            ("format", "name", "version", "voices", "parts"),
            ("notice", "codec", "sampling", "text_frontend", "message_sdr_db"),
        ),
    ]
)


def read_manifest(path: Path) -> Manifest:
    """Reads and checks a bundle.json. Raises BundleError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error
    try:
        content = json.loads(text, object_pairs_hook=named_once)
    except json.JSONDecodeError as error:
        raise BundleError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.") from error
    except NOT_JSON as error:
        raise BundleError(f"{path}: not valid JSON: {error}.") from error
    try:
        return _MANIFEST.validate_python(content, context=path)
    except ValidationError as error:
        raise BundleError(f"{path}: {first_problem(error)}.") from error
