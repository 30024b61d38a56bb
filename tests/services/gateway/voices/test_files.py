"""Voices with prompts in files: the operator's folder, and the bundle's, which the engine provides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, voices_pb2

from services.common.rpc.status import FieldViolation, invalid_argument
from services.gateway.budgets import recording_budget
from services.gateway.requests.recordings import read_recording
from services.gateway.voices.folder import VoicesFolderError, voice_folder
from services.gateway.voices.prompt_cache import BROKEN_S
from services.gateway.voices.voice import identity_values
from tests.services.gateway.audio.speech_like import speech_like
from tests.services.gateway.audio.test_packets import made
from tests.services.gateway.voices.callers import Caller, calling, deployment_with_tokens, read, refusal, wav
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import fake_frames, fake_identity
from tests.support.text_streams import fake_answer
from tests.support.waits import eventually

NO_FORMAT = "its recording is no WAV, Ogg Opus, MP3, AAC or FLAC file."
CODES = fake_frames(0, 5)
CONSENT = {"id": "contract 17", "text": "She agrees."}


def write_voice(folder: Path, name: str, **changes: Any) -> None:
    content = {"format": 1, "speaker": 1, "text": "What she says.", "audio": "prompt.wav", "consent": CONSENT}
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "prompt.wav").write_bytes(wav())
    kept = {key: value for key, value in (content | changes).items() if value is not None}
    (folder / name / "voice.json").write_text(json.dumps(kept))


def write_codes(folder: Path, name: str, codes: rvq_pb2.CodeFrames = CODES, **changes: Any) -> None:
    write_voice(folder, name, audio=None, codes="prompt.codes", codec=identity_values(fake_identity()) | changes)
    (folder / name / "prompt.codes").write_bytes(codes.SerializeToString())


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[FakeDeployment]:
    folder = tmp_path / "voices"
    write_voice(folder, "carol")
    write_voice(folder, "dave", callers=["radio"])
    write_voice(folder, "seeded", text=None, audio=None, consent=None, seed=7)
    write_codes(folder, "coded")
    write_codes(folder, "foreign", weights_digest="f1")
    async with deployment_with_tokens(tmp_path, voices_folder=folder) as running:
        yield running


@pytest.fixture
async def callers(deployment: FakeDeployment) -> AsyncIterator[list[Caller]]:
    async with calling(deployment, "shop", "radio") as found:
        yield found


async def test_recording_of_the_folder_is_encoded_once(deployment: FakeDeployment, callers: list[Caller]) -> None:
    await asyncio.gather(*(read(callers[0].say("carol")) for _ in range(3)))
    assert len(deployment.codec.encoded) == 1
    assert deployment.codec.encoded[0].sample_rate_hertz == 8000
    for call in deployment.engine.calls:
        assert call.request.segments[0].codes == fake_frames(0, 3)


async def test_recording_is_encoded_though_no_call_has_waited_for_it(
    deployment: FakeDeployment, callers: list[Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a voice could not be used if all deadlines are shorter than the encoding takes."""
    encode, begun, may = deployment.codec.encode, list[Any](), asyncio.Event()

    async def slow(recording: Any) -> Any:
        begun.append(recording)
        await may.wait()
        return await encode(recording)

    monkeypatch.setattr(deployment.codec, "encode", slow)
    for _ in range(2):
        call = callers[0].say("carol")
        reading = asyncio.ensure_future(read(call))
        await eventually(lambda: begun)
        call.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    may.set()
    await read(callers[0].say("carol"))
    assert len(begun) == len(deployment.codec.encoded) == 1


@pytest.mark.parametrize(
    "encoding",
    [
        tts_pb2.AUDIO_ENCODING_OGG_OPUS,
        tts_pb2.AUDIO_ENCODING_MP3,
        tts_pb2.AUDIO_ENCODING_AAC,
        tts_pb2.AUDIO_ENCODING_FLAC,
    ],
)
async def test_prompt_may_be_any_file_that_a_caller_may_send(tmp_path: Path, encoding: tts_pb2.AudioEncoding) -> None:
    write_voice(tmp_path / "voices", "carol", audio="prompt")
    recording = made(encoding, 24_000, speech_like(48_000, 24_000))
    (tmp_path / "voices" / "carol" / "prompt").write_bytes(recording)
    async with (
        deployment_with_tokens(tmp_path, voices_folder=tmp_path / "voices") as running,
        calling(running, "shop") as (shop,),
    ):
        await read(shop.say("carol"))
        (encoded,) = running.codec.encoded
        assert 1.9 < len(encoded.samples) / 2 / encoded.sample_rate_hertz < 2.1


async def test_codes_of_the_folder_are_used_as_they_are(deployment: FakeDeployment, callers: list[Caller]) -> None:
    await read(callers[0].say("coded"))
    assert deployment.codec.encoded == []
    assert deployment.engine.calls[0].request.segments[0].codes == fake_frames(0, 5)


@pytest.mark.parametrize("first", [3, 9])
async def test_codes_of_an_answer_are_one_turn_with_the_words_of_the_folder(tmp_path: Path, first: int) -> None:
    """As `csm say --return-codes` writes them, and as they are when frames were cut off behind it."""
    codes = fake_answer(("What", first), ("she said.", 2))
    codes.frame_count, codes.codes = 5, fake_frames(0, 5).codes
    write_codes(tmp_path, "carol", codes)
    async with deployment_with_tokens(tmp_path, voices_folder=tmp_path) as running, calling(running, "shop") as (shop,):
        await read(shop.say("carol"))
        prompt, _ = running.engine.calls[0].request.segments
    assert (prompt.text, prompt.codes) == ("What she says.", fake_frames(0, 5))


async def test_codes_of_another_codec_are_refused(callers: list[Caller]) -> None:
    error = await refusal(callers[0].say("foreign"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOICE_OTHER_CODEC")


async def test_a_recording_refused_by_the_codec_is_an_operator_s_error(
    deployment: FakeDeployment, callers: list[Caller], clock: Clock
) -> None:
    deployment.codec.refusal = invalid_argument([FieldViolation("samples", "last more than 120 s.", "AUDIO_TOO_LONG")])
    error = await refusal(callers[0].say("carol"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOICE_BROKEN")
    assert error.message == "The voice 'carol' cannot be used: its recording: last more than 120 s."
    deployment.codec.refusal = None
    clock.put_forward(BROKEN_S)
    await read(callers[0].say("carol"))


async def test_file_of_another_format_is_named_as_such(tmp_path: Path) -> None:
    write_voice(tmp_path / "voices", "carol")
    (tmp_path / "voices" / "carol" / "prompt.wav").write_bytes(b"noise")
    async with (
        deployment_with_tokens(tmp_path, voices_folder=tmp_path / "voices") as running,
        calling(running, "shop") as (shop,),
    ):
        error = await refusal(shop.say("carol"))
    assert error.message == f"The voice 'carol' cannot be used: {NO_FORMAT}"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (wav(2.0), "its recording lasts 2.0 s; at most 1 s are allowed."),
        (wav(0.5, rate_hz=4000), "its recording's sample_rate_hertz is 4000; it must be 8000 to 192000."),
        (wav(0.0), "its recording holds no samples."),
        (b"OggSnoise", "its recording is not Ogg Opus that can be read: "),
    ],
)
async def test_prompt_that_no_caller_could_send_is_refused_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, file: bytes, why: str
) -> None:
    """It is tried and logged once a minute."""
    decoded = list[int]()

    def counting(*arguments: Any) -> Any:
        decoded.append(1)
        return read_recording(*arguments)

    monkeypatch.setattr(recording_budget, "read_recording", counting)
    folder = tmp_path / "voices"
    write_voice(folder, "carol")
    write_codes(folder, "coded")
    (folder / "carol" / "prompt.wav").write_bytes(file)
    async with deployment_with_tokens(tmp_path, voices_folder=folder, max_recording_seconds=1) as running:
        async with calling(running, "shop") as (shop,):
            for _ in range(3):
                error = await refusal(shop.say("carol"))
                assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOICE_BROKEN")
                assert error.message.startswith(f"The voice 'carol' cannot be used: {why}")
            await read(shop.say("coded"))
            assert "carol" in await shop.listed()
        registry = running.gateway.server.metrics.registry
        assert registry.get_sample_value("tts_voice_lookups_total", {"source": "broken"}) == 3
        assert running.codec.encoded == []
    lines = [record for record in caplog.records if record.name == "csm.voices"]
    assert [line.levelname for line in lines] == ["ERROR"] and len(decoded) == 1
    assert lines[0].getMessage().startswith(f"the voice 'carol' cannot be used: {why}")


async def test_the_folder_restricts_who_may_use_a_voice(deployment: FakeDeployment, callers: list[Caller]) -> None:
    shop, radio = callers
    assert await shop.listed() == ["ada", "bo", "carol", "coded", "foreign", "seeded"]
    value = deployment.gateway.server.metrics.registry.get_sample_value
    assert [value("tts_voices", {"source": source}) for source in ("model", "folder")] == [2, 5]
    assert "dave" in await radio.listed()
    await read(radio.say("dave"))
    assert (await radio.get("dave")).audience == voices_pb2.VOICE_AUDIENCE_CALLERS
    assert (await radio.get("carol")).audience == voices_pb2.VOICE_AUDIENCE_EVERYONE
    for call in (shop.say("dave"), shop.get("dave")):
        assert (await refusal(call)).reason == "VOICE_NOT_FOUND"
    assert (await refusal(shop.create("dave"))).reason == "VOICE_EXISTS"
    request = tts_pb2.SynthesizeRequest(
        input=tts_pb2.SynthesisInput(text="Hello.", speaker=0),
        voice=tts_pb2.VoiceSelection(name="dave"),
        audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM),
    )
    assert (await refusal(shop.tts.Synthesize(request, metadata=shop.metadata))).reason == "VOICE_NOT_FOUND"


async def test_voice_of_the_folder_hides_a_kept_one_from_every_caller(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path) as before, calling(before, "shop") as (shop,):
        await shop.create("erin")
    write_voice(tmp_path / "voices", "erin", callers=["radio"])
    async with deployment_with_tokens(tmp_path, voices_folder=tmp_path / "voices") as after:
        async with calling(after, "shop", "radio") as (shop, radio):
            assert "erin" not in await shop.listed()
            for call in (shop.say("erin"), shop.get("erin")):
                assert (await refusal(call)).reason == "VOICE_NOT_FOUND"
            await read(radio.say("erin"))


async def test_seed_of_the_folder_is_that_of_requests_that_set_none(callers: list[Caller]) -> None:
    header: Any = await read(callers[0].say("seeded"))
    assert header.seed == 7


async def test_voice_whose_text_is_spaces_has_no_prompt(tmp_path: Path) -> None:
    write_voice(tmp_path / "voices", "blank", text=" ", audio=None, consent=None, seed=7)
    async with (
        deployment_with_tokens(tmp_path, voices_folder=tmp_path / "voices") as running,
        calling(running, "shop") as (shop,),
    ):
        header: Any = await read(shop.say("blank"))
        assert header.seed == 7


async def test_changed_folder_is_read_again_and_a_wrong_one_is_not_used(
    look_at_files: Callable[[], None], deployment: FakeDeployment, callers: list[Caller], tmp_path: Path
) -> None:
    async def listed() -> list[str]:
        look_at_files()
        return await callers[0].listed()

    write_voice(tmp_path / "voices", "erin")
    assert "erin" in await listed()
    (tmp_path / "voices" / "erin" / "voice.json").write_text("{}")
    write_voice(tmp_path / "voices", "frank")
    names = await listed()
    assert "erin" in names and "frank" not in names
    labels = {"setting": "voices_folder", "outcome": "refused"}
    assert deployment.gateway.server.metrics.registry.get_sample_value("stage_file_reloads_total", labels) == 1
    write_voice(tmp_path / "voices", "erin")
    assert "frank" in await listed()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 2}, "format is 2; 1 is the only format known"),
        ({"speaker": -1}, "speaker is -1"),
        ({"text": None}, "a prompt needs text, and one of audio and codes"),
        ({"codes": "prompt.wav"}, "a prompt needs text, and one of audio and codes"),
        ({"consent": None}, "consent is missing"),
        ({"consent": {"id": "17"}}, "consent.text is null"),
        ({"audio": "../prompt.wav"}, "must be a file beside it"),
        ({"audio": "other.wav"}, "other.wav"),
        ({"seed": -1}, "seed is -1"),
        ({"callers": []}, "callers is []"),
        ({"text": None, "audio": None}, "neither a prompt nor a seed"),
        ({"colour": "red"}, "allowed keys are"),
    ],
)
def test_wrong_voice_stops_the_start_and_is_named(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    write_voice(tmp_path, "carol", **changes)
    with pytest.raises(VoicesFolderError) as failed:
        voice_folder(tmp_path)
    assert why in str(failed.value) and "carol" in str(failed.value)
