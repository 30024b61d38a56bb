"""`bundle.json`, read and checked. It opens no other file and never touches the network.

Every mistake is one BundleError that names the file and the line or key, what stands there and
what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from csm_bundle.errors import BundleError
from csm_bundle.hub import HubReference, checked_relative_path
from csm_bundle.sampling import LARGEST_INTEGER, LIMITS, RecommendedSampling

FORMAT = 1
MIN_SDR_DB, MAX_SDR_DB = 10.0, 80.0  # audio over its watermark: louder is no mark but noise, fainter is none
PARTS = ("model", "tokenizer", "mimi", "silentcipher", "lexicon")

_KEYS = frozenset(
    {"format", "name", "version", "notice", "parts", "codec", "sampling", "text_frontend", "message_sdr_db", "voices"}
)
_VOICE_KEYS = frozenset({"name", "speaker", "language_codes", "description"})
_SAMPLING_KEYS = frozenset(field.name for field in fields(RecommendedSampling))
_CODEC_NUMBERS = ("codebook_count", "codebook_size", "frame_sample_count", "sample_rate_hertz")
_CODEC_KEYS = frozenset({"name", "weights_digest", *_CODEC_NUMBERS})


@dataclass(frozen=True, slots=True)
class Voice:
    """A name that callers may use for one of the model's speakers."""

    name: str
    speaker: int
    language_codes: tuple[str, ...] = ()  # BCP-47
    description: str = ""


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """What the model's codes belong to; `csm.rvq.v1.CodecIdentity` carries the same values."""

    name: str
    weights_digest: str  # "" when the bundle does not pin the weights
    codebook_count: int
    codebook_size: int
    frame_sample_count: int
    sample_rate_hertz: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of one bundle.json. A part is a hub reference or a path relative to the file."""

    name: str
    version: str
    notice: str
    voices: tuple[Voice, ...]
    codec: CodecIdentity | None
    sampling: RecommendedSampling
    parts: Mapping[str, HubReference | str]
    text_frontend: str = ""
    message_sdr_db: float | None = None  # of the watermark; that of the networks' own file when None


def read_manifest(path: Path) -> Manifest:
    """Reads and checks a bundle.json."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BundleError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.") from error
    return _Reader(path).manifest(value)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks parsed JSON; it carries the file's path for the messages."""

    path: Path

    def manifest(self, value: object) -> Manifest:
        top = self._object(value, "the top level", allowed=_KEYS)
        if top.get("format") != FORMAT:
            raise self._error("format", top.get("format"), f"{FORMAT} is the only format known")
        codec = top.get("codec")
        voices = self._list(top, "voices", "voices")
        if not voices:
            raise self._error("voices", voices, "at least one voice is needed")
        return Manifest(
            name=self._string(top, "name", "name"),
            version=self._string(top, "version", "version"),
            notice=self._string(top, "notice", "notice", default=""),
            voices=self._unique([self._voice(v, f"voices[{i}]") for i, v in enumerate(voices)]),
            codec=None if codec is None else self._codec(codec),
            sampling=self._sampling(top.get("sampling", {})),
            parts=self._parts(top.get("parts")),
            text_frontend=self._string(top, "text_frontend", "text_frontend", default=""),
            message_sdr_db=self._decibels(top.get("message_sdr_db")),
        )

    def _decibels(self, value: object) -> float | None:
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not MIN_SDR_DB <= value <= MAX_SDR_DB:
            raise self._error("message_sdr_db", value, f"decibels from {MIN_SDR_DB:g} to {MAX_SDR_DB:g} are needed")
        return float(value)

    def _parts(self, value: object) -> dict[str, HubReference | str]:
        parts = self._object(value, "parts", allowed=frozenset(PARTS))
        return {name: self._part(parts, name) for name in parts}

    def _part(self, parts: Mapping[str, object], name: str) -> HubReference | str:
        location, key = self._string(parts, name, f"parts.{name}"), f"{self.path}: parts.{name}"
        if location.startswith("hf:"):
            return HubReference.parse(location, key)
        return checked_relative_path(location, key)

    def _voice(self, value: object, key: str) -> Voice:
        voice = self._object(value, key, allowed=_VOICE_KEYS)
        codes = self._list(voice, "language_codes", f"{key}.language_codes")
        for index, code in enumerate(codes):
            if not isinstance(code, str) or not code:
                raise self._error(f"{key}.language_codes[{index}]", code, "a language tag is needed")
        return Voice(
            name=self._string(voice, "name", f"{key}.name"),
            speaker=self._integer(voice, "speaker", f"{key}.speaker", least=0),
            language_codes=tuple(str(code) for code in codes),
            description=self._string(voice, "description", f"{key}.description", default=""),
        )

    def _unique(self, voices: list[Voice]) -> tuple[Voice, ...]:
        names = [voice.name for voice in voices]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise self._error(f"voices[{index}].name", name, "each name may be used once")
        return tuple(voices)

    def _codec(self, value: object) -> CodecIdentity:
        codec = self._object(value, "codec", allowed=_CODEC_KEYS)
        numbers = {n: self._integer(codec, n, f"codec.{n}", least=1) for n in _CODEC_NUMBERS}
        return CodecIdentity(
            name=self._string(codec, "name", "codec.name"),
            weights_digest=self._string(codec, "weights_digest", "codec.weights_digest", default=""),
            **numbers,
        )

    def _sampling(self, value: object) -> RecommendedSampling:
        sampling = self._object(value, "sampling", allowed=_SAMPLING_KEYS)
        return RecommendedSampling(
            **{name: self._sampled(name, value) for name, value in sampling.items() if value is not None}
        )

    def _sampled(self, name: str, value: object) -> Any:
        """One field of `sampling`, a number of its kind. How many codes the codec has is not known here."""
        limits = LIMITS[name].at(LARGEST_INTEGER)
        whole = limits.kind is int
        if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not limits.allow(value):
            noun, link = "whole number" if whole else "number", "of" if limits.most == LARGEST_INTEGER else "from"
            raise self._error(f"sampling.{name}", value, f"a {noun} {link} {limits} is needed")
        return limits.kind(value)

    def _object(self, value: object, key: str, allowed: frozenset[str]) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise self._error(key, value, "an object is needed")
        for name in value:
            if name not in allowed:
                raise self._error(key, name, f"allowed keys are {', '.join(sorted(allowed))}")
        return value

    def _list(self, parent: Mapping[str, object], name: str, key: str) -> list[object]:
        value = parent.get(name, [])
        if not isinstance(value, list):
            raise self._error(key, value, "a list is needed")
        return value

    def _string(self, parent: Mapping[str, object], name: str, key: str, default: str | None = None) -> str:
        value = parent.get(name, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self._error(key, value, "a string is needed")
        return value

    def _integer(self, parent: Mapping[str, object], name: str, key: str, least: int) -> int:
        value = parent.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._error(key, value, f"a whole number of at least {least} is needed")
        return value

    def _error(self, key: str, given: object, allowed: str) -> BundleError:
        return BundleError(f"{self.path}: {key} is {json.dumps(given)[:80]}; {allowed}.")
