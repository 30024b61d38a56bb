"""A text goes on inside a sentence: the same audio, and no frame of a checkpoint is made again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.common.telemetry import logs
from tests.services.gateway.rpc.checkpoints.sealing_gateway import (
    ENCODINGS,
    broken_chains,
    refusal,
    resumed_streams,
    sealing_gateway,
    without_times,
)
from tests.services.gateway.rpc.checkpoints.texts import Config, CountsByText, ResumePoint, receive, with_states
from tests.services.gateway.rpc.checkpoints.utterances import InStep, decoded_by, forget, made_by
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import Script
from tests.support.text_streams import messages_of

Running = tuple[FakeDeployment, Any]
FRAMES = {"One is first.": 23, "No sound.": 0, "Three is long.": 17, "Four.": 2}
NUMBERS = list(FRAMES.values())
TEXT = ["One is first. ", "No sound. Three is lo", "ng. Four."]
FIELD = "config.stream_config.speech_checkpoints"


async def refused(
    tts: Any, config: Config, sentence_states: Sequence[bytes], speech_states: Sequence[bytes]
) -> tuple[str, str]:
    asked = with_states(config, ResumePoint(tuple(sentence_states), tuple(speech_states)))
    return await refusal(tts.StreamSynthesizeText(messages_of(asked, TEXT)))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        run_in_lockstep(deployment)
        yield deployment, tts


def run_in_lockstep(deployment: FakeDeployment) -> None:
    deployment.engine.frame_counts = CountsByText(deployment.engine, FRAMES)  # type: ignore[assignment]
    deployment.engine.script = InStep(deployment.codec)
    deployment.codec.checkpoint_lag = 7  # so that checkpoints are between two samples of another rate


@pytest.fixture
def asked(config: Config) -> Config:
    config.stream_config.send_checkpoints = True
    config.sampling_params.seed, config.input.speaker, config.return_codes = 7, 1, True
    config.context.turns.add(speaker=0, text="Hello?")
    return config


@pytest.mark.parametrize(
    ("encoding", "rate_hz"), [("pcm", 0), ("wav", 0), ("pcm", 11_025), ("mulaw", 8_000), ("flac", 0), ("flac", 44_100)]
)
async def test_a_text_resumes_inside_its_sentences_bit_for_bit(
    running: Running, asked: Config, encoding: str, rate_hz: int
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding, asked.audio_config.sample_rate_hertz = ENCODINGS[encoding], rate_hz  # type: ignore[assignment]
    whole = await receive(tts, asked, TEXT)
    assert len(whole.inside_sentences) >= 5
    num_inside = 0
    for point in whole.inside_sentences:
        forget(deployment)
        rest = await receive(tts, asked, TEXT, point)
        num_resumed, sample = rest.header.resumed_frame_count, rest.header.first_sample_offset
        assert rest.header.resumed_sentence_count == rest.header.first_sentence_index == len(point.sentence_states)
        begin = point
        if not sample:  # the sentence has only just begun, and is decoded again from its start
            begin = whole.sentence_start(point)
        num_inside += sample > 0
        assert sample in (0, point.sample)
        assert rest.content == whole.content[begin.num_bytes :]
        assert rest.sentences == whole.sentences[begin.num_sentences :]
        assert rest.end == whole.end
        assert without_times(rest.summary) == without_times(whole.summary)
        assert (
            num_resumed > 0
            and sum(map(made_by, deployment.engine.calls)) == sum(NUMBERS[len(point.sentence_states) :]) - num_resumed
        )
        assert all(call.request.has_listener for call in (*deployment.engine.calls, *deployment.codec.calls))
        if sample:
            first = whole.sentences[len(point.sentence_states)].sample_offset
            heard_frames = (sample - first) * 24_000 // (rate_hz or 24_000) // 1920
            assert decoded_by(deployment.codec.calls[0]) <= NUMBERS[len(point.sentence_states)] - heard_frames + 3 + 5
        assert len(rest.points[-1].sentence_states) == len(FRAMES), "with all sentences behind those of the request"
    assert num_inside >= len(whole.inside_sentences) - 4
    assert resumed_streams(deployment, "text", "checkpoint") == len(whole.inside_sentences)


@pytest.mark.parametrize("encoding", ["ogg_opus", "mp3", "aac", "pcm"])
async def test_encodings_that_cannot_resume_decode_frames_again_without_the_engine(
    running: Running, asked: Config, encoding: str
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    deployment.codec.sends_checkpoints = encoding != "pcm"  # as at other speeds than 1
    whole = await receive(tts, asked, TEXT)
    for point in whole.inside_sentences[::3]:
        forget(deployment)
        rest = await receive(tts, asked, TEXT, point)
        num_resumed = rest.header.resumed_frame_count
        assert num_resumed > 0 == rest.header.first_sample_offset
        begin = whole.points[0]
        if encoding == "pcm":  # from the start of its sentence
            begin = whole.sentence_start(point)
        else:  # sentences that are decoded again have no checkpoints
            assert all(after.num_sentences > len(after.sentence_states) for after in rest.inside_sentences)
        num_said = len(point.sentence_states) if encoding == "pcm" else 0
        assert deployment.codec.calls[0].request.resume == b"." * num_said, "the clip as it is where the stream begins"
        assert rest.content == whole.content[begin.num_bytes :]
        assert without_times(rest.summary) == without_times(whole.summary)
        assert sum(map(made_by, deployment.engine.calls)) == sum(NUMBERS[len(point.sentence_states) :]) - num_resumed


async def test_checkpoints_of_several_gateways_with_one_key_follow_each_other(tmp_path: Path, asked: Config) -> None:
    """Calls are lost again and again inside one sentence, and then in a later one."""
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        run_in_lockstep(deployment)
        whole = await receive(tts, asked, TEXT)
    point = whole.inside_sentences[1]
    for number, is_inside in ((0, True), (0, True), (-1, True), (-1, False)):
        async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
            run_in_lockstep(deployment)
            deployment.codec.info.active_key_id = "key-2"
            rest = await receive(tts, asked, TEXT, point)
            assert rest.content and rest.content == whole.content[point.num_bytes :]
            assert {call.request.watermark_key_id for call in deployment.codec.calls} == {"key-1"}
            after = (rest.inside_sentences if is_inside else rest.points)[number]
            point = ResumePoint(
                after.sentence_states, after.speech_states, after.sample, point.num_bytes + after.num_bytes
            )
    assert len(point.sentence_states) == 4


async def test_a_sentence_that_the_engine_had_finished_needs_no_engine(running: Running, asked: Config) -> None:
    deployment, tts = running
    deployment.engine.script = Script()  # the engine runs far ahead of the codec
    whole = await receive(tts, asked, TEXT)
    point = whole.inside_sentences[2]
    forget(deployment)
    rest = await receive(tts, asked, TEXT, point)
    assert rest.header.resumed_frame_count == 23 and rest.content == whole.content[point.num_bytes :]
    assert [call.request.segments[-1].text for call in deployment.engine.calls] == list(FRAMES)[1:]


async def test_later_sentences_have_the_resumed_sentence_as_context(running: Running, asked: Config) -> None:
    deployment, tts = running
    whole = await receive(tts, asked, TEXT)
    requests = [call.request for call in deployment.engine.calls]
    forget(deployment)
    await receive(tts, asked, TEXT, whole.inside_sentences[0])
    again = [call.request for call in deployment.engine.calls]
    for one, other in zip(reversed(again), reversed(requests), strict=False):
        assert one.segments == other.segments
        assert (one.sampling_params, one.max_frame_count) == (other.sampling_params, other.max_frame_count)
    assert len(again) >= 3


async def test_a_gateway_without_the_key_restarts_the_text(tmp_path: Path, asked: Config) -> None:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        run_in_lockstep(deployment)
        whole = await receive(tts, asked, TEXT)
    for point in (whole.inside_sentences[1], whole.inside_sentences[-1]):
        async with sealing_gateway(tmp_path / "other.json") as (deployment, tts):
            run_in_lockstep(deployment)
            again = await receive(tts, asked, TEXT, point)
            assert again.content == whole.content
            header = again.header
            assert not (header.resumed_sentence_count or header.resumed_frame_count or header.first_sample_offset)
            after = again.inside_sentences[-1]  # its states replace those that were sent
            assert (await receive(tts, asked, TEXT, after)).content == whole.content[after.num_bytes :]


async def test_checkpoints_that_do_not_belong_here_are_refused(running: Running, asked: Config) -> None:
    deployment, tts = running
    whole, other_call = await receive(tts, asked, TEXT), await receive(tts, asked, TEXT)
    first, other_first = (
        [point for point in received.inside_sentences if not point.sentence_states][-1]
        for received in (whole, other_call)
    )
    third = whole.inside_sentences[-1]
    for given, index, reason in broken_chains(list(first.speech_states), list(other_first.speech_states)):
        assert await refused(tts, asked, [], given) == (f"{FIELD}[{index}]", reason)
    elsewhere = (f"{FIELD}[0]", "CHECKPOINT_OTHER_REQUEST")
    assert await refused(tts, asked, [], third.speech_states) == elsewhere
    assert await refused(tts, asked, third.sentence_states, first.speech_states) == elsewhere
    assert await refused(tts, asked, other_call.inside_sentences[-1].sentence_states, third.speech_states) == elsewhere
    assert (await refused(tts, asked, third.sentence_states[1:], third.speech_states))[1] == "CHECKPOINT_OUT_OF_ORDER"
    other_words = messages_of(with_states(asked, first), ["Another text. ", *TEXT[1:]])
    assert await refusal(tts.StreamSynthesizeText(other_words)) == ("text", "CHECKPOINT_OTHER_TEXT")
    ended = messages_of(with_states(asked, third), ["One is first. No sound."])
    assert await refusal(tts.StreamSynthesizeText(ended)) == ("text", "CHECKPOINT_OTHER_TEXT")


async def test_an_utterance_refuses_checkpoints_of_a_text(running: Running, stream_request: Config) -> None:
    _, tts = running
    stream_request.stream_config.speech_checkpoints.append(b"state")
    field, _ = await refusal(tts.StreamSynthesize(stream_request))
    assert field == "stream_config.speech_checkpoints"


async def test_no_checkpoints_are_sent_unless_requested(running: Running, asked: Config) -> None:
    _, tts = running
    whole = await receive(tts, asked, TEXT)
    asked.stream_config.send_checkpoints = False
    for point in (
        [point for point in whole.inside_sentences if not point.sentence_states][-1],
        whole.inside_sentences[-1],
    ):
        rest = await receive(tts, asked, TEXT, point)
        assert rest.content == whole.content[point.num_bytes :] and len(rest.points) == 1


async def test_the_log_counts_a_resumed_sentence_from_its_start(
    running: Running, asked: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tts = running
    whole = await receive(tts, asked, TEXT)
    logged: list[Any] = []
    monkeypatch.setattr(logs, "annotate", lambda **fields: logged.append(fields.get("resumed_parts")))
    for point in (whole.inside_sentences[0], whole.inside_sentences[-1]):
        await receive(tts, asked, TEXT, point)
    assert [parts for parts in logged if parts is not None] == [1, 3]
