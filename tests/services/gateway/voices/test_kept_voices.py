"""Voices that callers create and use, through the gateway's API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, voices_pb2

from csm_bundle.errors import InvalidRequestError
from services.common.rpc.status import StatusError
from services.gateway.voices.store import VoiceStore
from tests.services.gateway.voices.callers import (
    Caller,
    calling,
    deployment_with_tokens,
    read,
    recording,
    refusal,
)
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import fake_frames


@pytest.fixture
async def deployment(database: str, tmp_path: Path) -> AsyncIterator[FakeDeployment]:
    async with deployment_with_tokens(tmp_path, voices_database=database, max_voices_per_caller=2) as running:
        yield running


@pytest.fixture
async def callers(deployment: FakeDeployment) -> AsyncIterator[list[Caller]]:
    async with calling(deployment, "shop", "radio", "tv") as found:
        yield found


async def test_prompt_is_before_the_context_of_every_request(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop = callers[0]
    await shop.create("carol")
    for _ in range(2):
        turns = [tts_pb2.Turn(speaker=0, text="How are you?")]
        header: Any = await read(shop.say("carol", context=tts_pb2.SynthesisContext(turns=turns)))
        assert header.voice == "carol"
    first, second = (call.request for call in deployment.engine.calls)
    assert first.segments == second.segments
    assert [(part.speaker_id, part.text) for part in first.segments] == [
        (1, "What she says."),
        (0, "How are you?"),
        (1, "Hello."),
    ]
    assert first.segments[0].codes == fake_frames(0, 3)
    assert first.pinned_segment_count == 1
    assert len(deployment.codec.encoded) == 1  # the prompt was encoded when the voice was made


async def test_asked_speaker_has_the_prompt(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop = callers[0]
    await shop.create("carol")
    request = tts_pb2.SynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="Hello.", speaker=0),
        voice=tts_pb2.VoiceSelection(name="carol"),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
    )
    answer = await shop.tts.Synthesize(request, metadata=shop.metadata)
    assert answer.voice == "carol"
    assert [part.speaker_id for part in deployment.engine.calls[0].request.segments] == [0, 0]


async def test_every_sentence_of_a_text_has_the_prompt(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop = callers[0]
    await shop.create("carol", language_codes=["en"])
    config = tts_pb2.StreamSynthesizeRequest(
        voice=tts_pb2.VoiceSelection(name="carol"),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
    )
    pieces = [
        tts_pb2.StreamSynthesizeTextRequest(config=config),
        tts_pb2.StreamSynthesizeTextRequest(text=tts_pb2.TextPiece(text="One is here. Two is there. ")),
    ]
    assert [message async for message in shop.tts.StreamSynthesizeText(iter(pieces), metadata=shop.metadata)]
    texts = [[part.text for part in call.request.segments] for call in deployment.engine.calls]
    assert texts == [["What she says.", "One is here."], ["What she says.", "One is here.", "Two is there."]]
    assert all(call.request.pinned_segment_count == 1 for call in deployment.engine.calls)


async def test_fixed_seed_is_that_of_requests_that_set_none(callers: list[Caller]) -> None:
    shop = callers[0]
    request = voices_pb2.CreateVoiceRequest(name="carol", seed=7)
    await shop.voices.CreateVoice(request, metadata=shop.metadata)
    header: Any = await read(shop.say("carol"))
    assert header.seed == 7
    header = await read(shop.say("carol", sampling_params=tts_pb2.SamplingParams(seed=8)))
    assert header.seed == 8
    assert (await shop.get("carol")).voice.seed == 7


async def test_voice_without_a_prompt_is_shown_without_a_consent(callers: list[Caller]) -> None:
    await callers[0].voices.CreateVoice(
        voices_pb2.CreateVoiceRequest(name="plain", seed=7), metadata=callers[0].metadata
    )
    assert not (await callers[0].get("plain")).HasField("consent")


async def test_a_voice_of_the_model_is_not_kept(callers: list[Caller]) -> None:
    """Such a voice is listed and can be used, so the error must not say that it does not exist."""
    assert "ada" in await callers[0].listed()
    assert (await refusal(callers[0].delete("ada"))).message.startswith("There is no stored voice 'ada'")


async def test_a_voice_is_usable_by_the_callers_that_its_owner_names(callers: list[Caller]) -> None:
    shop, radio, tv = callers
    await shop.create("carol", audience=voices_pb2.VOICE_AUDIENCE_CALLERS, callers=["radio"])
    await shop.create("dave", audience=voices_pb2.VOICE_AUDIENCE_EVERYONE)
    assert [await caller.listed() for caller in callers] == [
        ["ada", "bo", "carol", "dave"],
        ["ada", "bo", "carol", "dave"],
        ["ada", "bo", "dave"],
    ]
    await read(radio.say("carol"))
    for call in (tv.say("carol"), tv.get("carol"), tv.delete("carol")):
        error = await refusal(call)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND")
    error = await refusal(radio.delete("carol"))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "VOICE_OF_ANOTHER")


async def test_voice_that_names_no_language_is_listed_with_those_of_any(callers: list[Caller]) -> None:
    """Requests of any language may use it."""
    shop = callers[0]
    await shop.create("carol")
    await shop.create("dan", language_codes=["de"])
    for language, names in (("de", ["bo", "carol", "dan"]), ("en", ["ada", "bo", "carol"])):
        asked = tts_pb2.ListVoicesRequest(language_code=language)
        answer = await shop.tts.ListVoices(asked, metadata=shop.metadata)
        assert [voice.name for voice in answer.voices] == names
    request = tts_pb2.StreamSynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="Hallo."),
        voice=tts_pb2.VoiceSelection(name="carol", language_code="de"),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
    )
    assert await read(shop.tts.StreamSynthesize(request, metadata=shop.metadata))


async def test_only_the_owner_sees_consent_callers_and_text(callers: list[Caller]) -> None:
    shop, radio, _ = callers
    made = await shop.create(
        "carol", audience=voices_pb2.VOICE_AUDIENCE_CALLERS, callers=["radio", "radio"], description="Calm."
    )
    assert made == await shop.get("carol")
    assert (made.consent.id, made.prompt_text, list(made.callers)) == ("contract 17", "What she says.", ["radio"])
    assert made.prompt_level_db == -20
    assert (made.prompt_duration.nanos, made.model_version) == (240_000_000, "fake/1")
    seen = await radio.get("carol")
    assert (seen.owner, seen.voice.description, seen.voice.has_prompt) == ("shop", "Calm.", True)
    assert not seen.HasField("consent") and not seen.prompt_text and not seen.callers
    assert not seen.HasField("prompt_level_db")


async def test_a_deleted_voice_is_not_found_and_its_running_stream_continues(
    deployment: FakeDeployment, callers: list[Caller]
) -> None:
    shop = callers[0]
    await shop.create("carol")
    deployment.engine.script.pause_at = 4
    call = shop.say("carol")
    await deployment.engine.script.paused.wait()
    await shop.delete("carol")
    error = await refusal(shop.say("carol"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND")
    deployment.engine.script.resume.set()
    header: Any = await read(call)
    assert header.voice == "carol"


async def test_a_voice_deleted_while_its_prompt_is_read_is_not_found(
    callers: list[Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(store: VoiceStore, uid: str) -> None:
        return None

    await callers[0].create("carol")
    monkeypatch.setattr(VoiceStore, "codes", gone)
    error = await refusal(callers[0].say("carol"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND")


async def test_voice_made_anew_under_an_old_name_has_the_new_prompt(
    deployment: FakeDeployment, callers: list[Caller]
) -> None:
    shop = callers[0]
    await shop.create("carol")
    await read(shop.say("carol"))
    await shop.delete("carol")
    await shop.create("carol", prompt=voices_pb2.VoicePrompt(text="Other words.", audio=recording()))
    await read(shop.say("carol"))
    assert deployment.engine.calls[-1].request.segments[0].text == "Other words."


async def test_voice_of_another_codec_is_refused(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop = callers[0]
    await shop.create("carol")
    for info in (deployment.engine.info, deployment.codec.info):
        info.codec.weights_digest = "f1"
    deployment.gateway._catalogs.forget()
    error = await refusal(shop.say("carol"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOICE_OTHER_CODEC")
    assert "weights_digest is f0, this server's is f1" in error.message
    assert "carol" in await shop.listed()


async def test_limit_and_names_are_refused(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop, radio, _ = callers
    for name in ("ada", "carol"):  # ada is the model's
        if name == "carol":
            await shop.create("carol")
        error = await refusal(radio.create(name))
        assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "VOICE_EXISTS")
    await shop.create("dave")
    error = await refusal(shop.create("erin"))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "VOICE_LIMIT")
    assert len(deployment.codec.encoded) == 2  # prompts of refused voices are not encoded
    await shop.delete("dave")
    await shop.create("erin")


async def test_an_invalid_name_is_logged_truncated(callers: list[Caller], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "csm.rpc")
    for call in (callers[0].create, callers[0].delete):
        await refusal(call("x" * 100_000))
    logged = [record.__dict__["fields"].get("voice") for record in caplog.records if record.msg == "call ended"]
    assert [voice for voice in logged if voice] == ["x" * 64] * 2


async def test_prompt_that_the_engine_refuses_is_named_as_the_voice(
    deployment: FakeDeployment, callers: list[Caller]
) -> None:
    await callers[0].create("carol")
    deployment.engine.refusal = InvalidRequestError("segments[0].codes", "is wrong")
    error = await refusal(callers[0].say("carol"))
    (violation,) = error.field_violations
    assert violation.field == "voice.name"
    turns = [tts_pb2.Turn(speaker=0, text="How are you?")]
    deployment.engine.refusal = InvalidRequestError("segments[1].text", "is wrong")
    error = await refusal(callers[0].say("carol", context=tts_pb2.SynthesisContext(turns=turns)))
    (violation,) = error.field_violations
    assert violation.field == "context.turns[0].text"


async def test_server_without_a_database_keeps_no_voices(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path, voices_database="") as running, calling(running, "shop") as (shop,):
        for call in (shop.create("carol"), shop.delete("carol")):
            error = await refusal(call)
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOICES_OFF")
        assert (await shop.get("bo")).voice.speaker == 1
        assert (await refusal(shop.say("carol"))).reason == "VOICE_NOT_FOUND"


async def test_without_tokens_every_caller_may_use_and_delete_every_voice(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path, auth_tokens_file=None) as running, calling(running, "") as (caller,):
        made = await caller.create("carol")
        assert made.owner == ""
        await read(caller.say("carol"))
        await caller.delete("carol")


async def test_metrics_count_lookups_and_voices(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop = callers[0]
    await shop.create("carol")
    await read(shop.say("carol"))
    await read(shop.say("bo"))
    await refusal(shop.say("nobody"))
    value = deployment.gateway.server.metrics.registry.get_sample_value
    for source, count in (("kept", 1), ("model", 1), ("none", 1)):
        assert value("tts_voice_lookups_total", {"source": source}) == count
    assert value("tts_voices", {"source": "kept"}) == 1


async def test_voice_that_is_kept_is_no_failure_when_only_the_count_fails(
    deployment: FakeDeployment, callers: list[Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = deployment.gateway._kept._store_or_none
    assert store is not None
    of_owner = store.count

    async def lost_for_the_metric(owner: str | None = None) -> int:
        if owner is None:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, "VOICES_UNREACHABLE", "The database cannot be reached.")
        return await of_owner(owner)

    monkeypatch.setattr(store, "count", lost_for_the_metric)
    assert (await callers[0].create("carol")).voice.name == "carol"
    await callers[0].delete("carol")
    assert (await refusal(callers[0].get("carol"))).reason == "VOICE_NOT_FOUND"
