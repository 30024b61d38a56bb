"""Prompts of created voices: rules for recordings, codes and other fields. Prompts of the bundle's voices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2, voices_pb2

from tests.services.gateway.voices.callers import (
    Caller,
    calling,
    deployment_with_tokens,
    read,
    recording,
    refusal,
    wav,
)
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FakeCodec, fake_frames

LEVELS = codec_pb2.RecordingLevels


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[FakeDeployment]:
    async with deployment_with_tokens(tmp_path) as running:
        yield running


@pytest.fixture
async def callers(deployment: FakeDeployment) -> AsyncIterator[list[Caller]]:
    async with calling(deployment, "shop") as found:
        yield found


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (LEVELS(speech_level_db=-45), "PROMPT_TOO_QUIET"),
        (LEVELS(speech_level_db=-20, silent_ratio=0.7), "PROMPT_SILENT"),
        (LEVELS(speech_level_db=-200, silent_ratio=1), "PROMPT_SILENT"),
        (LEVELS(speech_level_db=-20, clipped_ratio=0.02), "PROMPT_CLIPPED"),
    ],
)
async def test_bad_recording_is_refused(
    deployment: FakeDeployment, callers: list[Caller], levels: LEVELS, reason: str
) -> None:
    deployment.codec.levels = levels
    error = await refusal(callers[0].create("carol"))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = error.field_violations
    assert (violation.field, violation.reason) == ("prompt.audio.recording.audio_content", reason)
    assert "carol" not in await callers[0].listed()


@pytest.mark.parametrize(("seconds", "reason"), [(0.5, "PROMPT_TOO_SHORT"), (31, "AUDIO_TOO_LONG")])
async def test_length_of_a_recording_is_limited(callers: list[Caller], seconds: float, reason: str) -> None:
    prompt = voices_pb2.VoicePrompt(text="What she says.", audio=recording(seconds))
    error = await refusal(callers[0].create("carol", prompt=prompt))
    (violation,) = error.field_violations
    assert (violation.field, violation.reason) == ("prompt.audio.recording.audio_content", reason)


async def test_own_output_is_refused(deployment: FakeDeployment, callers: list[Caller]) -> None:
    deployment.codec.detection = codec_pb2.DetectWatermarkResponse(
        stretches=[codec_pb2.WatermarkedStretch(key_id="key-1")]
    )
    codes = tts_pb2.TurnAudio(codes=fake_frames(0, 30))
    for audio, field in (
        (recording(), "prompt.audio.recording.audio_content"),
        (codes, "prompt.audio.codes"),
    ):
        error = await refusal(callers[0].create("carol", prompt=voices_pb2.VoicePrompt(text="Words.", audio=audio)))
        (violation,) = error.field_violations
        assert (violation.field, violation.reason) == (field, "PROMPT_IS_OWN_OUTPUT")


async def test_own_output_is_taken_where_the_operator_allows_it(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path, voices_from_own_output=True) as running:
        running.codec.detection.detected = True
        async with calling(running, "shop") as (shop,):
            await shop.create("carol")
            codes = tts_pb2.TurnAudio(codes=fake_frames(0, 30))
            made = await shop.create("dave", prompt=voices_pb2.VoicePrompt(text="Words.", audio=codes))
            assert made.prompt_duration.ToTimedelta().total_seconds() == 2.4
            await read(shop.say("dave"))
            assert running.engine.calls[-1].request.segments[0].codes.codes == fake_frames(0, 30).codes


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"name": "no spaces"}, "name", "VOICE_NAME_INVALID"),
        ({"speaker": -1}, "speaker", ""),
        ({"consent": voices_pb2.Consent(text="She agrees.")}, "consent.id", "NO_CONSENT"),
        ({"consent": voices_pb2.Consent(id="17")}, "consent.text", "NO_CONSENT"),
        ({"prompt": voices_pb2.VoicePrompt(audio=recording())}, "prompt.text", "TEXT_EMPTY"),
        ({"prompt": voices_pb2.VoicePrompt(text="Words.")}, "prompt.audio", ""),
        ({"prompt": None}, "prompt", "VOICE_EMPTY"),
        ({"seed": -1}, "seed", ""),
        ({"description": 1001 * "x"}, "description", ""),
        ({"description": "a\0b"}, "description", ""),
        ({"prompt": voices_pb2.VoicePrompt(text="a\0b", audio=recording())}, "prompt.text", ""),
        ({"language_codes": ["not a tag"]}, "language_codes", ""),
        ({"audience": 9}, "audience", ""),
        ({"callers": ["radio"]}, "callers", ""),
        ({"audience": voices_pb2.VOICE_AUDIENCE_CALLERS}, "callers", ""),
        ({"audience": voices_pb2.VOICE_AUDIENCE_CALLERS, "callers": ["no spaces"]}, "callers", ""),
    ],
)
async def test_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], field: str, reason: str) -> None:
    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        error = await refusal(shop.create(changes.pop("name", "carol"), **changes))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        (violation,) = error.field_violations
        assert (violation.field, violation.reason) == (field, reason)
        assert not running.codec.encoded


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        ({"name": "a b"}, "is 'a b'; it must be 1 to 64 letters, digits or . _ -, a letter or digit first."),
        ({"name": 70 * "x"}, f"is '{64 * 'x'}...' (70 characters); it must be 1 to 64 letters, "),
        ({"language_codes": ["en", "not a tag"]}, "has 'not a tag'; all entries must be BCP-47 tags, such as en-GB."),
        ({"language_codes": 17 * ["en"]}, "has 17 entries; at most 16 are allowed."),
        ({"callers": ["radio", "a b"]}, "has 'a b'; all entries must be names of tokens."),
        ({"callers": 101 * ["radio"]}, "has 101 entries; at most 100 are allowed."),
        ({"prompt": None}, "is missing; a voice needs a prompt, a seed, or both."),
    ],
)
async def test_error_has_what_was_given_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], description: str
) -> None:
    if "callers" in changes:
        changes = changes | {"audience": voices_pb2.VOICE_AUDIENCE_CALLERS}
    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        error = await refusal(shop.create(changes.pop("name", "carol"), **changes))
        (violation,) = error.field_violations
        assert violation.description.startswith(description)


class OldCodec(FakeCodec):
    """A codec of a version that takes recordings only in one message, and may not measure them."""

    StreamEncode = codec_pb2_grpc.CodecServiceServicer.StreamEncode


async def test_codec_of_an_older_version_is_named(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path, codec=OldCodec) as running, calling(running, "shop") as (shop,):
        error = await refusal(shop.create("carol"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CODEC_TOO_OLD")


@pytest.mark.parametrize("as_codes", [False, True])
async def test_prompt_of_the_bundle_is_asked_for_once(tmp_path: Path, as_codes: bool) -> None:
    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        running.engine.info.voices.add(name="eve", speaker_id=2, prompt_digest="d0", seed=3)
        prompt = engine_pb2.GetVoicePromptResponse(text="What she says.", recording=wav())
        if as_codes:
            prompt = engine_pb2.GetVoicePromptResponse(text="What she says.", codes=fake_frames(0, 5))
        running.engine.voice_prompts["eve"] = prompt
        running.gateway._catalogs.forget()
        for _ in range(2):
            header: Any = await read(shop.say("eve"))
            assert header.seed == 3
        running.engine.voice_prompts.clear()
        await read(shop.say("eve"))
        assert len(running.codec.encoded) == (0 if as_codes else 1)
        for call in running.engine.calls:
            assert call.request.segments[0].codes == fake_frames(0, 5 if as_codes else 3)
        answer = await shop.tts.ListVoices(tts_pb2.ListVoicesRequest(), metadata=shop.metadata)
        assert [voice.has_prompt for voice in answer.voices] == [False, False, True]


async def test_prompt_of_another_bundle_is_not_held_as_the_one_that_was_asked_for(tmp_path: Path) -> None:
    """During the rollout of a new bundle one engine may list the voice, and another be asked for its prompt."""

    def prompt(frames: int, digest: str) -> engine_pb2.GetVoicePromptResponse:
        codes = fake_frames(0, frames)
        return engine_pb2.GetVoicePromptResponse(text="What she says.", codes=codes, prompt_digest=digest)

    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        running.engine.info.voices.add(name="eve", speaker_id=2, prompt_digest="old", seed=3)
        running.gateway._catalogs.forget()
        for frames, digest in ((5, "new"), (7, "old")):
            running.engine.voice_prompts["eve"] = prompt(frames, digest)
            await read(shop.say("eve"))
        said = [call.request.segments[0].codes for call in running.engine.calls]
        assert said == [fake_frames(0, 5), fake_frames(0, 7)]
