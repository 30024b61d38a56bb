"""A text goes on inside of a sentence: the same audio, and no frame that was told is made again."""

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
from tests.services.gateway.rpc.checkpoints.texts import Config, Mark, hear, with_states
from tests.services.gateway.rpc.checkpoints.utterances import InStep, decoded_by, forget, made_by
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FakeEngine, Script
from tests.support.text_streams import messages_of

Running = tuple[FakeDeployment, Any]
FRAMES = {"One is first.": 23, "No sound.": 0, "Three is long.": 17, "Four.": 2}
NUMBERS = list(FRAMES.values())
TEXT = ["One is first. ", "No sound. Three is lo", "ng. Four."]
FIELD = "config.stream_config.speech_checkpoints"


class CountsByText:
    """How many frames each sentence has."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def pop(self, index: int) -> int:
        return FRAMES[self._engine.calls[-1].request.segments[-1].text]


async def refused(tts: Any, config: Config, said: Sequence[bytes], inside: Sequence[bytes]) -> tuple[str, str]:
    asked = with_states(config, Mark(tuple(said), tuple(inside)))
    return await refusal(tts.StreamSynthesizeText(messages_of(asked, TEXT)))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        be_in_step(deployment)
        yield deployment, tts


def be_in_step(deployment: FakeDeployment) -> None:
    deployment.engine.frame_counts = CountsByText(deployment.engine)  # type: ignore[assignment]
    deployment.engine.script = InStep(deployment.codec)
    deployment.codec.checkpoint_lag = 7  # where two sample rates have no moment in common


@pytest.fixture
def asked(config: Config) -> Config:
    config.stream_config.send_checkpoints = True
    config.sampling_params.seed, config.input.speaker, config.return_codes = 7, 1, True
    config.context.turns.add(speaker=0, text="Hello?")
    return config


@pytest.mark.parametrize(
    ("encoding", "rate_hz"), [("pcm", 0), ("wav", 0), ("pcm", 11_025), ("mulaw", 8_000), ("flac", 0), ("flac", 44_100)]
)
async def test_a_text_goes_on_inside_of_its_sentences_bit_for_bit(
    running: Running, asked: Config, encoding: str, rate_hz: int
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding, asked.audio_config.sample_rate_hertz = ENCODINGS[encoding], rate_hz  # type: ignore[assignment]
    whole = await hear(tts, asked, TEXT)
    assert len(whole.inside) >= 5
    num_inside = 0
    for mark in whole.inside:
        forget(deployment)
        rest = await hear(tts, asked, TEXT, mark)
        told, sample = rest.header.resumed_frame_count, rest.header.first_sample_offset
        assert rest.header.resumed_sentence_count == rest.header.first_sentence_index == len(mark.said)
        begin = mark
        if not sample:  # the sentence has just begun, and is decoded from its start
            begin = next(other for other in reversed(whole.marks) if other.said == mark.said and not other.inside)
        num_inside += sample > 0
        assert sample in (0, mark.sample)
        assert rest.content == whole.content[begin.num_bytes :]
        assert rest.sentences == whole.sentences[begin.num_sentences :]
        assert rest.end == whole.end
        assert without_times(rest.summary) == without_times(whole.summary)
        assert told > 0 and sum(map(made_by, deployment.engine.calls)) == sum(NUMBERS[len(mark.said) :]) - told
        assert all(call.request.has_listener for call in (*deployment.engine.calls, *deployment.codec.calls))
        if sample:
            first = whole.sentences[len(mark.said)].sample_offset
            heard_frames = (sample - first) * 24_000 // (rate_hz or 24_000) // 1920
            assert decoded_by(deployment.codec.calls[0]) <= NUMBERS[len(mark.said)] - heard_frames + 3 + 5
        assert len(rest.marks[-1].said) == len(FRAMES), "with all sentences behind those of the request"
    assert num_inside >= len(whole.inside) - 4
    assert resumed_streams(deployment, "text", "checkpoint") == len(whole.inside)


@pytest.mark.parametrize("encoding", ["ogg_opus", "mp3", "aac", "pcm"])
async def test_where_no_encoder_goes_on_frames_are_decoded_again_without_the_engine(
    running: Running, asked: Config, encoding: str
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    deployment.codec.sends_checkpoints = encoding != "pcm"  # as at other speeds than 1
    whole = await hear(tts, asked, TEXT)
    for mark in whole.inside[::3]:
        forget(deployment)
        rest = await hear(tts, asked, TEXT, mark)
        told = rest.header.resumed_frame_count
        assert told > 0 == rest.header.first_sample_offset
        begin = whole.marks[0]
        if encoding == "pcm":  # at its sentence
            begin = next(other for other in reversed(whole.marks) if other.said == mark.said and not other.inside)
        else:  # nothing is told of sentences that are decoded again
            assert all(after.num_sentences > len(after.said) for after in rest.inside)
        num_said = len(mark.said) if encoding == "pcm" else 0
        assert deployment.codec.calls[0].request.resume == b"." * num_said, "the clip as it is where the stream begins"
        assert rest.content == whole.content[begin.num_bytes :]
        assert without_times(rest.summary) == without_times(whole.summary)
        assert sum(map(made_by, deployment.engine.calls)) == sum(NUMBERS[len(mark.said) :]) - told


async def test_checkpoints_of_several_gateways_with_one_key_follow_each_other(tmp_path: Path, asked: Config) -> None:
    """Lost again and again inside of one sentence, and then in a later one."""
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        be_in_step(deployment)
        whole = await hear(tts, asked, TEXT)
    mark = whole.inside[1]
    for number, is_inside in ((0, True), (0, True), (-1, True), (-1, False)):
        async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
            be_in_step(deployment)
            deployment.codec.info.active_key_id = "key-2"
            rest = await hear(tts, asked, TEXT, mark)
            assert rest.content and rest.content == whole.content[mark.num_bytes :]
            assert {call.request.watermark_key_id for call in deployment.codec.calls} == {"key-1"}
            after = (rest.inside if is_inside else rest.marks)[number]
            mark = Mark(after.said, after.inside, after.sample, mark.num_bytes + after.num_bytes)
    assert len(mark.said) == 4


async def test_an_engine_that_had_ended_the_sentence_is_not_asked_again(running: Running, asked: Config) -> None:
    deployment, tts = running
    deployment.engine.script = Script()  # far ahead of the codec
    whole = await hear(tts, asked, TEXT)
    mark = whole.inside[2]
    forget(deployment)
    rest = await hear(tts, asked, TEXT, mark)
    assert rest.header.resumed_frame_count == 23 and rest.content == whole.content[mark.num_bytes :]
    assert [call.request.segments[-1].text for call in deployment.engine.calls] == list(FRAMES)[1:]


async def test_the_later_sentences_have_what_was_told_as_context(running: Running, asked: Config) -> None:
    deployment, tts = running
    whole = await hear(tts, asked, TEXT)
    requests = [call.request for call in deployment.engine.calls]
    forget(deployment)
    await hear(tts, asked, TEXT, whole.inside[0])
    again = [call.request for call in deployment.engine.calls]
    for one, other in zip(reversed(again), reversed(requests), strict=False):
        assert one.segments == other.segments
        assert (one.sampling_params, one.max_frame_count) == (other.sampling_params, other.max_frame_count)
    assert len(again) >= 3


async def test_a_gateway_that_lacks_the_key_makes_everything_again(tmp_path: Path, asked: Config) -> None:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        be_in_step(deployment)
        whole = await hear(tts, asked, TEXT)
    for mark in (whole.inside[1], whole.inside[-1]):
        async with sealing_gateway(tmp_path / "other.json") as (deployment, tts):
            be_in_step(deployment)
            again = await hear(tts, asked, TEXT, mark)
            assert again.content == whole.content
            header = again.header
            assert not (header.resumed_sentence_count or header.resumed_frame_count or header.first_sample_offset)
            after = again.inside[-1]  # they take the place of the others
            assert (await hear(tts, asked, TEXT, after)).content == whole.content[after.num_bytes :]


async def test_checkpoints_that_do_not_belong_here_are_refused(running: Running, asked: Config) -> None:
    deployment, tts = running
    whole, other_call = await hear(tts, asked, TEXT), await hear(tts, asked, TEXT)
    first, other_first = ([mark for mark in heard.inside if not mark.said][-1] for heard in (whole, other_call))
    third = whole.inside[-1]
    for given, index, reason in broken_chains(list(first.inside), list(other_first.inside)):
        assert await refused(tts, asked, [], given) == (f"{FIELD}[{index}]", reason)
    elsewhere = (f"{FIELD}[0]", "CHECKPOINT_OTHER_REQUEST")
    assert await refused(tts, asked, [], third.inside) == elsewhere
    assert await refused(tts, asked, third.said, first.inside) == elsewhere
    assert await refused(tts, asked, other_call.inside[-1].said, third.inside) == elsewhere
    assert (await refused(tts, asked, third.said[1:], third.inside))[1] == "CHECKPOINT_OUT_OF_ORDER"
    other_words = messages_of(with_states(asked, first), ["Another text. ", *TEXT[1:]])
    assert await refusal(tts.StreamSynthesizeText(other_words)) == ("text", "CHECKPOINT_OTHER_TEXT")
    ended = messages_of(with_states(asked, third), ["One is first. No sound."])
    assert await refusal(tts.StreamSynthesizeText(ended)) == ("text", "CHECKPOINT_OTHER_TEXT")


async def test_an_utterance_takes_none_of_a_text(running: Running, stream_request: Config) -> None:
    _, tts = running
    stream_request.stream_config.speech_checkpoints.append(b"state")
    field, _ = await refusal(tts.StreamSynthesize(stream_request))
    assert field == "stream_config.speech_checkpoints"


async def test_nobody_gets_checkpoints_who_does_not_ask(running: Running, asked: Config) -> None:
    _, tts = running
    whole = await hear(tts, asked, TEXT)
    asked.stream_config.send_checkpoints = False
    for mark in ([mark for mark in whole.inside if not mark.said][-1], whole.inside[-1]):
        rest = await hear(tts, asked, TEXT, mark)
        assert rest.content == whole.content[mark.num_bytes :] and len(rest.marks) == 1


async def test_the_log_counts_the_sentence_that_is_not_made_again_from_its_start(
    running: Running, asked: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tts = running
    whole = await hear(tts, asked, TEXT)
    told: list[Any] = []
    monkeypatch.setattr(logs, "annotate", lambda **fields: told.append(fields.get("resumed_parts")))
    for mark in (whole.inside[0], whole.inside[-1]):
        await hear(tts, asked, TEXT, mark)
    assert [parts for parts in told if parts is not None] == [1, 3]
