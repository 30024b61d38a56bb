"""Returned codes are sealed: only gateways with the same keys can open them, and changed ones are refused."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import KeyringError
from services.common.rpc import status
from services.common.rpc.status import FieldViolation
from services.gateway.auth.code_sealing import CodeSeal, SealError
from services.gateway.settings import GatewaySettings
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import fake_frames, fake_identity

CODEC = fake_identity()
CODES = fake_frames(0, 10)


def keys_file(path: Path, active: str, **keys: str) -> Path:
    path.write_text(json.dumps({"format": 1, "active": active, "keys": keys}))
    return path


@pytest.fixture
def seal(tmp_path: Path) -> CodeSeal:
    return CodeSeal(tmp_path / "seal.json")


def test_sealed_codes_come_back_as_they_were_and_show_nothing(seal: CodeSeal, tmp_path: Path) -> None:
    sealed = seal.seal(CODES, CODEC)
    assert seal.open(sealed, CODEC) == CODES == CodeSeal(tmp_path / "seal.json").open(sealed, CODEC)
    assert CODES.codes[:64] not in sealed and CODES.codes[-64:] not in sealed
    assert seal.seal(CODES, CODEC) != sealed
    assert stat.S_IMODE((tmp_path / "seal.json").stat().st_mode) == 0o600


def test_every_changed_byte_and_every_cut_is_refused(seal: CodeSeal) -> None:
    sealed = seal.seal(fake_frames(0, 1), CODEC)
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(SealError):
            seal.open(bytes(changed), CODEC)
        with pytest.raises(SealError):
            seal.open(sealed[:index], CODEC)


def other_codecs() -> Iterator[rvq_pb2.CodecIdentity]:
    """Each differs from CODEC in another field."""
    for field in CODEC.DESCRIPTOR.fields:
        other = rvq_pb2.CodecIdentity()
        other.CopyFrom(CODEC)
        value = getattr(CODEC, field.name)
        setattr(other, field.name, "other" if isinstance(value, str) else value + 1)
        yield other


def test_refusals_have_a_reason(seal: CodeSeal, tmp_path: Path) -> None:
    sealed = seal.seal(CODES, CODEC)
    for opened_by, content, codec, reason in (
        (CodeSeal(tmp_path / "other.json"), sealed, CODEC, "SEALED_CODES_UNKNOWN_KEY"),
        *((seal, sealed, other_codec, "SEALED_CODES_OTHER_CODEC") for other_codec in other_codecs()),
        (seal, sealed[:-1] + bytes([sealed[-1] ^ 1]), CODEC, "SEALED_CODES_CHANGED"),
        (seal, CODES.SerializeToString(), CODEC, "SEALED_CODES_MALFORMED"),
        (seal, b"", CODEC, "SEALED_CODES_MALFORMED"),
    ):
        with pytest.raises(SealError) as refused:
            opened_by.open(content, codec)
        assert refused.value.reason == reason


def test_rotation_seals_with_the_active_key_and_opens_the_old(tmp_path: Path) -> None:
    old = CodeSeal(keys_file(tmp_path / "old.json", "a", a="01" * 32))
    both = CodeSeal(keys_file(tmp_path / "both.json", "b", a="01" * 32, b="02" * 32))
    new = CodeSeal(keys_file(tmp_path / "new.json", "b", b="02" * 32))
    assert both.open(old.seal(CODES, CODEC), CODEC) == CODES
    assert new.open(both.seal(CODES, CODEC), CODEC) == CODES
    with pytest.raises(SealError, match="does not have"):
        new.open(old.seal(CODES, CODEC), CODEC)


def test_a_changed_file_is_followed_and_a_wrong_one_is_not(
    tmp_path: Path, look_at_files: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    path, counted = tmp_path / "seal.json", list[bool]()
    seal = CodeSeal(keys_file(path, "a", a="01" * 32), counted.append)
    by_a = seal.seal(CODES, CODEC)
    keys_file(path, "b", a="01" * 32, b="02" * 32)
    look_at_files()
    by_b = seal.seal(CODES, CODEC)
    assert b"\x01b" in by_b[:8] and seal.open(by_a, CODEC) == seal.open(by_b, CODEC) == CODES
    path.write_text("{")
    look_at_files()
    assert seal.seal(CODES, CODEC)[:8] == by_b[:8] and seal.open(by_a, CODEC) == CODES
    path.unlink()
    look_at_files()
    assert seal.open(by_a, CODEC) == CODES
    assert not path.exists(), "no other key takes the place of a file that is gone"
    assert counted == [True, False, False]
    assert caplog.text.count("what was read before stays in use") == 2
    keys_file(path, "b", b="02" * 32)
    look_at_files()
    assert seal.open(by_b, CODEC) == CODES
    with pytest.raises(SealError) as refused:
        seal.open(by_a, CODEC)
    assert refused.value.reason == "SEALED_CODES_UNKNOWN_KEY"


async def test_a_running_gateway_seals_with_the_key_that_became_active(
    tmp_path: Path, stream_request: tts_pb2.StreamSynthesizeRequest, look_at_files: Callable[[], None]
) -> None:
    path = keys_file(tmp_path / "seal.json", "a", a="01" * 32)
    stream_request.return_codes = True
    async with gateway(code_sealing="sealed", code_sealing_keyring=path) as (deployment, tts):
        before = (await summary_of(tts, stream_request)).sealed_codes
        keys_file(path, "b", a="01" * 32, b="02" * 32)
        look_at_files()
        after = (await summary_of(tts, stream_request)).sealed_codes
        assert (before[5:7], after[5:7]) == (b"\x01a", b"\x01b")
        for sealed in (before, after):
            await summary_of(tts, with_turn(stream_request, sealed_codes=sealed))
        labels = {"setting": "code_sealing_keyring", "outcome": "used"}
        registry = deployment.gateway.server.metrics.registry
        assert registry.get_sample_value("stage_file_reloads_total", labels) == 1


def test_a_file_that_is_no_keyring_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="64 hexadecimal digits"):
        CodeSeal(keys_file(tmp_path / "short.json", "a", a="0102"))
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyringError, match="code sealing keyring"):
        CodeSeal(tmp_path / "file" / "seal.json")


def test_codes_are_sealed_by_default() -> None:
    assert GatewaySettings.model_fields["code_sealing"].default == "sealed"


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[tuple[FakeDeployment, Any]]:
    async with fake_deployment(**settings) as deployment, grpc.aio.insecure_channel(deployment.target) as channel:
        yield deployment, tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]


async def summary_of(tts: Any, request: tts_pb2.StreamSynthesizeRequest) -> tts_pb2.SynthesisSummary:
    return [message async for message in tts.StreamSynthesize(request)][-1].summary


async def violation_of(tts: Any, request: tts_pb2.StreamSynthesizeRequest) -> FieldViolation:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tts.StreamSynthesize(request).read()
    error = status.from_rpc_error(refused.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = error.field_violations
    return violation


def with_turn(request: tts_pb2.StreamSynthesizeRequest, **audio: Any) -> tts_pb2.StreamSynthesizeRequest:
    turned = tts_pb2.StreamSynthesizeRequest()
    turned.CopyFrom(request)
    turned.context.turns.add(text="Before.", audio=tts_pb2.TurnAudio(**audio))
    return turned


async def test_sealed_codes_are_accepted_by_any_gateway_with_the_key(
    tmp_path: Path, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    settings = {"code_sealing": "sealed", "code_sealing_keyring": tmp_path / "seal.json"}
    stream_request.return_codes = True
    async with gateway(**settings) as (_, tts):
        summary = await summary_of(tts, stream_request)
        assert not summary.HasField("codes") and summary.sealed_codes
        unary = tts_pb2.SynthesizeRequest(
            input=stream_request.input, audio_config=stream_request.audio_config, return_codes=True
        )
        answer = (await tts.Synthesize(unary)).summary
        assert not answer.HasField("codes") and answer.sealed_codes
    async with gateway(**settings) as (deployment, tts):
        await summary_of(tts, with_turn(stream_request, sealed_codes=summary.sealed_codes))
        assert deployment.engine.calls[0].request.segments[0].codes == CODES
        broken = summary.sealed_codes[:-1] + bytes([summary.sealed_codes[-1] ^ 1])
        violation = await violation_of(tts, with_turn(stream_request, sealed_codes=broken))
        assert violation.field == "context.turns[0].audio.sealed_codes"
        assert violation.reason == "SEALED_CODES_CHANGED"
        violation = await violation_of(tts, with_turn(stream_request, codes=CODES))
        assert (violation.field, violation.reason) == ("context.turns[0].audio.codes", "CODES_NOT_SEALED")
        assert "recording" in violation.description
    async with gateway(**settings | {"code_sealing_keyring": tmp_path / "other.json"}) as (_, tts):
        violation = await violation_of(tts, with_turn(stream_request, sealed_codes=summary.sealed_codes))
        assert violation.reason == "SEALED_CODES_UNKNOWN_KEY"


async def test_codes_turned_off_are_neither_returned_nor_accepted(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    async with gateway(code_sealing="off") as (_, tts):
        for audio in ({"codes": CODES}, {"sealed_codes": b"CSMS\x01..."}):
            assert (await violation_of(tts, with_turn(stream_request, **audio))).reason == "CODES_OFF"
        summary = await summary_of(tts, stream_request)
        assert not summary.HasField("codes") and not summary.sealed_codes
        stream_request.return_codes = True
        violation = await violation_of(tts, stream_request)
        assert (violation.field, violation.reason) == ("return_codes", "CODES_OFF")


async def test_open_codes_are_returned_and_accepted_unsealed(stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    stream_request.return_codes = True
    async with gateway(code_sealing="open") as (deployment, tts):
        summary = await summary_of(tts, stream_request)
        assert summary.codes.codes == CODES.codes and not summary.sealed_codes
        await summary_of(tts, with_turn(stream_request, codes=summary.codes))
        assert deployment.engine.calls[1].request.segments[0].codes == CODES
        violation = await violation_of(tts, with_turn(stream_request, sealed_codes=b"CSMS\x01..."))
        assert violation.reason == "CODES_SEALED"
