"""A text goes on at the checkpoints of an earlier call: the same audio, and no finished sentence is made again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from csm.v1 import tts_pb2

from services.gateway.auth.code_sealing import STATE_MAGIC
from tests.services.gateway.rpc.checkpoints import texts
from tests.services.gateway.rpc.checkpoints.sealing_gateway import (
    ENCODINGS,
    broken_chains,
    change_model,
    failures,
    refusal,
    resumed_streams,
    sealing_gateway,
    without_times,
)
from tests.services.gateway.rpc.checkpoints.texts import Config, Received, ResumePoint
from tests.support.fake_deployment import FakeDeployment
from tests.support.text_streams import messages_of

FRAMES = [10, 0, 3, 12, 1]  # of each sentence
TEXT = ["One is first. ", "No sound. Three. ", "Four is much long", "er. Five."]


async def receive(tts: Any, config: Config, text: Sequence[str] = TEXT, after: Sequence[bytes] = ()) -> Received:
    return await texts.receive(tts, config, text, ResumePoint(sentence_states=tuple(after)))


@asynccontextmanager
async def gateway(keys: Path, **settings: Any) -> AsyncIterator[tuple[FakeDeployment, Any]]:
    async with sealing_gateway(keys, **settings) as (deployment, tts):
        deployment.engine.frame_counts = FRAMES * 100
        yield deployment, tts


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[FakeDeployment, Any]]:
    async with gateway(tmp_path / "seals.json") as found:
        yield found


@pytest.fixture
def asked(config: Config) -> Config:
    config.stream_config.send_checkpoints = True
    config.sampling_params.seed, config.input.speaker, config.return_codes = 7, 1, True
    config.context.turns.add(speaker=0, text="Hello?")
    return config


def begin(deployment: FakeDeployment, sentence: int) -> None:
    """Prepares the fake engine, whose next call makes that sentence."""
    deployment.engine.frame_counts = FRAMES[sentence:] + FRAMES * 100
    deployment.engine.calls.clear()
    deployment.codec.calls.clear()


@pytest.mark.parametrize(
    ("encoding", "rate_hz"), [("pcm", 0), ("wav", 0), ("pcm", 11_025), ("mulaw", 8_000), ("flac", 44_100)]
)
async def test_a_text_resumes_after_each_sentence_bit_for_bit(
    running: tuple[FakeDeployment, Any], asked: Config, encoding: str, rate_hz: int
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding, asked.audio_config.sample_rate_hertz = ENCODINGS[encoding], rate_hz  # type: ignore[assignment]
    begin(deployment, 0)
    whole = await receive(tts, asked)
    requests = [call.request for call in deployment.engine.calls]
    clips = [call.request.resume for call in deployment.codec.calls]
    assert len(whole.states) == len(whole.sentences) == len(FRAMES) and whole.summary.stats.frame_count == sum(FRAMES)
    for count in range(1, len(FRAMES) + 1):
        begin(deployment, count)
        rest = await receive(tts, asked, after=whole.states[:count])
        place = whole.after_sentences[count - 1]
        samples, num_bytes, num_sentences = place.sample, place.num_bytes, place.num_sentences
        assert (rest.header.resumed_sentence_count, rest.header.first_sentence_index) == (count, count)
        assert rest.sentences == whole.sentences[num_sentences:] and num_sentences == count
        assert rest.content == whole.content[num_bytes:]
        assert rest.end in (whole.end, 0) and samples <= whole.end
        assert without_times(rest.summary) == without_times(whole.summary)
        # No sentence before the checkpoint is made or decoded again.
        assert [call.request.segments for call in deployment.engine.calls] == [r.segments for r in requests[count:]]
        assert [call.request.sampling_params.seed for call in deployment.engine.calls] == [
            7 + n for n in range(count, 5)
        ]
        assert [call.request.max_frame_count for call in deployment.engine.calls] == [
            request.max_frame_count for request in requests[count:]
        ]
        assert [call.request.resume for call in deployment.codec.calls] == clips[count:]
        assert len(rest.states) == len(FRAMES) - count


async def test_encodings_that_cannot_resume_decode_sentences_again_without_the_engine(
    running: tuple[FakeDeployment, Any], asked: Config
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_MP3
    begin(deployment, 0)
    whole = await receive(tts, asked)
    begin(deployment, 3)
    again = await receive(tts, asked, after=whole.states[:3])
    assert (again.header.resumed_sentence_count, again.header.first_sentence_index) == (3, 0)
    assert (again.content, again.sentences, again.end) == (whole.content, whole.sentences, whole.end)
    assert without_times(again.summary) == without_times(whole.summary)
    assert [call.request.segments[-1].text for call in deployment.engine.calls] == ["Four is much longer.", "Five."]
    assert [call.frame_count for call in deployment.codec.calls] == FRAMES
    assert len(again.states) == 2
    begin(deployment, 4)
    once_more = await receive(tts, asked, after=[*whole.states[:3], again.states[0]])
    assert once_more.header.resumed_sentence_count == 4 and once_more.content == whole.content


async def test_checkpoints_of_several_gateways_with_one_key_follow_each_other(tmp_path: Path, asked: Config) -> None:
    """The second gateway already marks with a new key; this clip keeps the key that it began with."""
    async with gateway(tmp_path / "seals.json") as (deployment, tts):
        whole = await receive(tts, asked)
    states = whole.states[:1]
    for count in (1, 3):
        async with gateway(tmp_path / "seals.json") as (deployment, tts):
            deployment.codec.info.active_key_id = "key-2"
            begin(deployment, count)
            rest = await receive(tts, asked, after=states)
            assert rest.content == whole.content[whole.after_sentences[count - 1].num_bytes :]
            assert {call.request.watermark_key_id for call in deployment.codec.calls} == {"key-1"}
            states += rest.states[:2]
    async with gateway(tmp_path / "seals.json", max_remembered_sentences=1) as (_, tts):  # it would speak otherwise
        assert (await refused(tts, asked, states))[1] == "CHECKPOINT_OTHER_REQUEST"


async def test_a_gateway_without_the_key_restarts_the_text(tmp_path: Path, asked: Config) -> None:
    async with gateway(tmp_path / "seals.json") as (_, tts):
        whole = await receive(tts, asked)
    later_version = STATE_MAGIC[:-1] + b"\xff" + whole.states[0][len(STATE_MAGIC) :]
    for keys, states in (("other.json", whole.states[:2]), ("seals.json", [later_version])):
        async with gateway(tmp_path / keys) as (deployment, tts):
            again = await receive(tts, asked, after=states)
            assert (again.header.resumed_sentence_count, again.header.first_sentence_index) == (0, 0)
            assert again.content == whole.content and len(deployment.engine.calls) == len(again.states) == len(FRAMES)
            after = await receive(tts, asked, after=again.states)  # these states replace those that were sent
            assert after.header.resumed_sentence_count == len(FRAMES)
            assert [resumed_streams(deployment, "text", at) for at in ("start", "checkpoint")] == [1, 1]
    async with gateway(tmp_path / "none.json", code_sealing="open") as (_, tts):
        again = await receive(tts, asked, after=whole.states[:2])
        assert again.content == whole.content and not again.states


async def test_no_checkpoints_are_sent_unless_requested(running: tuple[FakeDeployment, Any], asked: Config) -> None:
    deployment, tts = running
    whole = await receive(tts, asked)
    begin(deployment, 0)
    asked.stream_config.send_checkpoints = False
    plain = await receive(tts, asked)
    assert not plain.states and plain.content == whole.content
    begin(deployment, 2)
    assert not (await receive(tts, asked, after=whole.states[:2])).states


async def test_checkpoints_show_no_word_and_no_code(running: tuple[FakeDeployment, Any], asked: Config) -> None:
    deployment, tts = running
    asked.audio_config.sample_rate_hertz = 8_000
    received = await receive(tts, asked)
    codes = [call.request.segments[1].codes.codes for call in deployment.engine.calls if len(call.request.segments) > 2]
    assert codes[0][:64] and not any(codes[0][-64:] in state or b"first" in state for state in received.states)
    for state, frames in zip(received.states, FRAMES, strict=True):
        assert len(state) < 64 * frames + 3000  # codes, samples for the filter, and some numbers


async def test_checkpoints_that_do_not_belong_here_are_refused(
    running: tuple[FakeDeployment, Any], asked: Config
) -> None:
    deployment, tts = running
    states = (await receive(tts, asked)).states
    other_call = (await receive(tts, asked)).states
    for given, index, reason in broken_chains(states, other_call):
        assert await refused(tts, asked, given) == (f"config.stream_config.checkpoints[{index}]", reason)
    assert failures(deployment, "CHECKPOINT_OUT_OF_ORDER") == 4
    for change in OTHER_REQUESTS:
        other = Config()
        other.CopyFrom(asked)
        other.MergeFrom(change)
        found = await refused(tts, other, states[:1])
        assert found == ("config.stream_config.checkpoints[0]", "CHECKPOINT_OTHER_REQUEST"), change
    other_text = ("text", "CHECKPOINT_OTHER_TEXT")
    assert await refused(tts, asked, states[:3], ["One is first. Another one. ", *TEXT[2:]]) == other_text
    assert await refused(tts, asked, states[:3], ["One is first. "]) == other_text
    change_model(deployment)
    found = await refused(tts, asked, states[:1])
    assert found == ("config.stream_config.checkpoints[0]", "CHECKPOINT_OTHER_REQUEST")


OTHER_REQUESTS = [
    Config(sampling_params=tts_pb2.SamplingParams(seed=8)),
    Config(sampling_params=tts_pb2.SamplingParams(top_k=3)),
    Config(input=tts_pb2.SynthesisInput(speaker=2)),
    Config(voice=tts_pb2.VoiceSelection(name="ada")),
    Config(voice=tts_pb2.VoiceSelection(name="bo"), input=tts_pb2.SynthesisInput(speaker=2)),
    Config(voice=tts_pb2.VoiceSelection(language_code="en-GB")),
    Config(audio_config=tts_pb2.AudioConfig(speed=2)),
    Config(audio_config=tts_pb2.AudioConfig(sample_rate_hertz=8000)),
    Config(audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_WAV)),
    Config(context=tts_pb2.SynthesisContext(turns=[tts_pb2.Turn(speaker=1, text="Well.")])),
    Config(max_audio_duration={"seconds": 9}),
]


async def refused(tts: Any, config: Config, after: Sequence[bytes], text: Sequence[str] = TEXT) -> tuple[str, str]:
    asked = Config()
    asked.CopyFrom(config)
    asked.stream_config.checkpoints.extend(after)
    return await refusal(tts.StreamSynthesizeText(messages_of(asked, text)))
