"""Voices as values. They know no database and no request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import grpc
from csm.rvq.v1 import rvq_pb2

from services.common.rpc.status import QuotaViolation, Resource, StatusError
from services.gateway.stages.catalog import Catalog


class Audience(StrEnum):
    """Who may use a kept voice."""

    OWNER = "owner"
    CALLERS = "callers"
    EVERYONE = "everyone"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The turn that comes before the context of every request with the voice."""

    text: str
    codes: rvq_pb2.CodeFrames


@dataclass(frozen=True, slots=True)
class ChosenVoice:
    """The voice of one request. The name is "" for a speaker without a voice."""

    name: str
    speaker: int
    prompt: Prompt | None = None
    seed: int | None = None  # of a request that sets none
    language_code: str = ""  # its first language; "" when it has none
    prompt_id: str = ""  # identifies the prompt, at every gateway alike; "" without a prompt


@dataclass(frozen=True, slots=True)
class KeptVoice:
    """A voice in the database, without its codes."""

    name: str
    uid: str  # distinguishes a voice from a later one of the same name
    owner: str
    audience: Audience
    callers: tuple[str, ...]
    speaker: int
    language_codes: tuple[str, ...]
    description: str
    seed: int | None
    consent_id: str
    consent_text: str
    prompt_text: str  # "" for a voice without a prompt
    prompt_frames: int
    prompt_level_db: float | None
    codec: Mapping[str, str | int]  # identity of the codec that made the codes; empty without a prompt
    model_version: str  # of the server that made it
    created_at: int  # seconds since 1970

    def may_be_used_by(self, caller: str) -> bool:
        if self.owner == caller or self.audience is Audience.EVERYONE:
            return True
        return self.audience is Audience.CALLERS and caller in self.callers


def identity_values(codec: rvq_pb2.CodecIdentity) -> dict[str, str | int]:
    """Every field of the identity, by name."""
    return {field.name: getattr(codec, field.name) for field in codec.DESCRIPTOR.fields}


def check_codec(name: str, codec: Mapping[str, str | int], catalog: Catalog) -> None:
    """Raises StatusError FAILED_PRECONDITION when the codes of voice `name` belong to another codec than the server's.

    codec: empty for a voice without codes
    """
    ours = identity_values(catalog.identity)
    for field, value in codec.items():
        if ours.get(field) != value:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "VOICE_OTHER_CODEC",
                f"The voice '{name}' was made for another codec: its {field} is {value}, this server's is"
                f" {ours.get(field)}. Make the voice again from its recording.",
                resource=Resource("voice", name),
            )


def not_found(name: str) -> StatusError:
    """NOT_FOUND, for a voice that does not exist and alike for one that the caller may not use."""
    return _not_found(name, f"There is no voice '{name}' that this caller may use; see the list of voices.")


def not_kept(name: str) -> StatusError:
    """NOT_FOUND for a deletion: also for voices of the model and of the operator's folder."""
    why = f"There is no stored voice '{name}' that this caller may use; only stored voices can be deleted."
    return _not_found(name, why)


def _not_found(name: str, why: str) -> StatusError:
    return StatusError(grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND", why, resource=Resource("voice", name))


def already_exists(name: str) -> StatusError:
    return StatusError(
        grpc.StatusCode.ALREADY_EXISTS,
        "VOICE_EXISTS",
        f"There is a voice '{name}' already; choose another name.",
        resource=Resource("voice", name),
    )


def too_many(owner: str, most: int) -> StatusError:
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "VOICE_LIMIT",
        f"{owner or 'This server'} keeps as many voices as it may: {most}; delete one first.",
        quota=QuotaViolation(f"caller:{owner}", f"voices kept: {most}"),
        metadata={"max_voices": str(most)},
    )
