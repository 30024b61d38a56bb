"""The catalog: the descriptions of engine and codec, checked against each other and cached. It knows no request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.common.rpc.status import FieldViolation, Resource, StatusError
from services.gateway.stages.backends import DescribesCodec, DescribesModel
from services.gateway.stages.errors import CODEC_CHANGED

MAX_AGE_S = 30.0  # after that the stages are asked again, for they may have been upgraded
_OTHER_BUNDLE = (CODEC_CHANGED, "CODEC_MISMATCH", "ENGINE_MISMATCH")


@dataclass(frozen=True, slots=True)
class Catalog:
    """A model and a codec that belong together."""

    model: engine_pb2.GetModelInfoResponse
    codec: codec_pb2.GetCodecInfoResponse

    @property
    def identity(self) -> rvq_pb2.CodecIdentity:
        return self.codec.codec

    @property
    def sample_rate_hz(self) -> int:
        return self.identity.sample_rate_hertz

    @property
    def frame_samples(self) -> int:
        return self.identity.frame_sample_count

    @property
    def frame_s(self) -> float:
        """Seconds of one frame."""
        return self.frame_samples / self.sample_rate_hz

    @property
    def notice(self) -> str:
        """The notes of both stages about their weights, for people. Equal notes appear once."""
        return " ".join(dict.fromkeys(notice for notice in (self.model.notice, self.codec.notice) if notice))

    def voice(self, name: str, language_code: str, speaker: int | None = None) -> engine_pb2.Voice:
        """The voice with that name, or a voice of that language; "" matches every name or language.

        Among several it is the first with that speaker, else the first. Raises StatusError NOT_FOUND.
        """
        fitting = [voice for voice in self.voices(language_code) if name in ("", voice.name)]
        for voice in [*(voice for voice in fitting if voice.speaker_id == speaker), *fitting]:
            return voice
        asked = f"There is no voice '{name}'" if name else "There is no voice"
        language = f" for language '{language_code}'" if language_code else ""
        known = ", ".join(voice.name for voice in self.model.voices) or "none"
        named = [voice for voice in self.model.voices if name in ("", voice.name)]
        if named and language_code:
            spoken = ", ".join(dict.fromkeys(code for voice in named for code in voice.language_codes)) or "none"
            violation = FieldViolation("voice.language_code", f"is '{language_code}'; there are voices for: {spoken}.")
        else:
            why = f"is '{name}'; the model's voices are: {known}. The list of voices has all that this caller may use."
            violation = FieldViolation("voice.name", why)
        raise StatusError(
            grpc.StatusCode.NOT_FOUND,
            "VOICE_NOT_FOUND",
            f"{asked}{language}; the model's voices are: {known}. The list of voices has all that this caller may use.",
            resource=Resource("voice", name),
            field_violations=[violation],
        )

    def voices(self, language_code: str) -> list[engine_pb2.Voice]:
        """The voices that speak a language ("en" includes "en-GB"); all for ""."""
        return [voice for voice in self.model.voices if speaks(voice.language_codes, language_code)]


def speaks(language_codes: Iterable[str], language_code: str) -> bool:
    """Whether a voice of these languages speaks one ("en" includes "en-GB"); true for ""."""
    wanted = language_code.lower()
    return not wanted or any(
        code == wanted or code.startswith(f"{wanted}-") or wanted.startswith(f"{code}-")
        for code in map(str.lower, language_codes)
    )


class CatalogSource:
    """Gets the catalog from both stages and caches it."""

    def __init__(self, engine: DescribesModel, codec: DescribesCodec) -> None:
        self._engine = engine
        self._codec = codec
        self._catalog: Catalog | None = None
        self._asked_at_s = 0.0
        self._num_forgotten = 0  # calls of `forget`

    def forget(self) -> None:
        """Makes the next `get` ask the stages again. Answers still under way are not cached."""
        self._catalog = None
        self._num_forgotten += 1

    @contextmanager
    def forgotten_if_wrong(self) -> Iterator[None]:
        """Forgets the catalog if the block fails because a stage is of another bundle."""
        try:
            yield
        except StatusError as error:
            if error.reason in _OTHER_BUNDLE:
                self.forget()
            raise

    async def get(self, timeout_s: float) -> Catalog:
        """Raises StageError when a stage cannot be reached, StatusError FAILED_PRECONDITION when they do not fit."""
        now_s = time.monotonic()
        if self._catalog is not None and now_s - self._asked_at_s <= MAX_AGE_S:
            return self._catalog
        num_forgotten = self._num_forgotten
        model, codec = await asyncio.gather(self._engine.model_info(timeout_s), self._codec.codec_info(timeout_s))
        check_same_codec(model.codec, codec.codec)
        catalog = Catalog(model, codec)
        if num_forgotten == self._num_forgotten:
            self._catalog, self._asked_at_s = catalog, now_s
        return catalog


def check_same_codec(engines: rvq_pb2.CodecIdentity, codecs: rvq_pb2.CodecIdentity) -> None:
    """Raises StatusError FAILED_PRECONDITION unless both name the same codec. Unset fields are not compared."""
    ours = {field.name: value for field, value in engines.ListFields()}
    for field, value in codecs.ListFields():
        if ours.get(field.name, value) != value:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "CODEC_MISMATCH",
                f"The engine's model speaks a codec whose {field.name} is {ours[field.name]},"
                f" but the codec stage has {value}; the two belong to different bundles.",
            )
