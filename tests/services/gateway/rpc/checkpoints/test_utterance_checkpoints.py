"""An utterance goes on at the checkpoints of an earlier call: the same audio, and no frame is made again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2

from services.common.rpc.status import StatusError
from services.gateway.auth.code_sealing import STATE_MAGIC, CodeSeal
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
from tests.services.gateway.rpc.checkpoints.utterances import (
    FRAMES,
    InStep,
    Received,
    Request,
    decoded_by,
    forget,
    made_by,
    receive,
    with_states,
)
from tests.support.fake_deployment import FakeDeployment, read_until_audio
from tests.support.fake_stages import FRAME_SAMPLES, Script, fake_frames, fake_identity
from tests.support.text_streams import fake_answer, messages_of

Running = tuple[FakeDeployment, Any]
NEEDED_AGAIN = 3  # frames before a checkpoint that the fake codec needs again


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        deployment.engine.frame_count = FRAMES
        deployment.engine.script = InStep(deployment.codec)
        deployment.codec.checkpoint_lag = 7  # so that checkpoints are between two samples of another rate
        yield deployment, tts


@pytest.fixture
def asked(stream_request: Request) -> Request:
    stream_request.stream_config.send_checkpoints = True
    stream_request.sampling_params.seed, stream_request.input.speaker, stream_request.return_codes = 7, 1, True
    stream_request.context.turns.add(speaker=0, text="Hello?")
    return stream_request


@pytest.mark.parametrize(
    ("encoding", "rate_hz"),
    [("pcm", 0), ("wav", 0), ("pcm", 11_025), ("mulaw", 8_000), ("alaw", 8_000), ("flac", 0), ("flac", 44_100)],
)
async def test_an_utterance_resumes_at_each_checkpoint_bit_for_bit(
    running: Running, asked: Request, tmp_path: Path, encoding: str, rate_hz: int
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding, asked.audio_config.sample_rate_hertz = ENCODINGS[encoding], rate_hz  # type: ignore[assignment]
    whole = await receive(tts, asked)
    assert len(whole.states) >= FRAMES // 10 and whole.summary.stats.frame_count == FRAMES
    seal = CodeSeal(tmp_path / "seals.json")
    for count in range(1, len(whole.states) + 1):
        forget(deployment)
        rest = await receive(tts, asked, whole.states[:count])
        samples, num_bytes = whole.places[count - 1]
        assert rest.header.first_sample_offset == samples > 0
        assert rest.content == whole.content[num_bytes:]
        assert not rest.content or (rest.begin, rest.end) == (samples, whole.end)
        assert without_times(rest.summary) == without_times(whole.summary)
        assert seal.open(rest.summary.sealed_codes, fake_identity()) == fake_answer((asked.input.text, FRAMES))
        num_resumed = rest.header.resumed_frame_count
        assert num_resumed < FRAMES or count > 1
        assert sum(map(made_by, deployment.engine.calls)) == FRAMES - num_resumed
        (decoding,) = deployment.codec.calls
        assert all(call.request.has_listener for call in (decoding, *deployment.engine.calls))
        heard_frames = samples * 24_000 // (rate_hz or 24_000) // FRAME_SAMPLES
        assert decoded_by(decoding) <= FRAMES - heard_frames + NEEDED_AGAIN + 5
    assert resumed_streams(deployment, "utterance", "checkpoint") == len(whole.states)


@pytest.mark.parametrize("encoding", ["ogg_opus", "mp3", "aac"])
async def test_encodings_that_cannot_resume_decode_all_frames_again_without_the_engine(
    running: Running, asked: Request, encoding: str
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    whole = await receive(tts, asked)
    for count in range(1, len(whole.states) + 1):
        forget(deployment)
        again = await receive(tts, asked, whole.states[:count])
        assert (again.header.first_sample_offset, again.begin) == (0, 0)
        assert (again.content, again.end) == (whole.content, whole.end)
        assert without_times(again.summary) == without_times(whole.summary)
        assert sum(map(made_by, deployment.engine.calls)) == FRAMES - again.header.resumed_frame_count
        assert [decoded_by(call) for call in deployment.codec.calls] == [FRAMES]
    assert resumed_streams(deployment, "utterance", "codes") == len(whole.states)


async def test_a_codec_without_checkpoints_decodes_from_the_first_frame(running: Running, asked: Request) -> None:
    """No codec has checkpoints at another speed than 1."""
    deployment, tts = running
    deployment.codec.sends_checkpoints = False
    whole = await receive(tts, asked)
    forget(deployment)
    again = await receive(tts, asked, whole.states[:2])
    assert again.header.resumed_frame_count > 0 and again.header.first_sample_offset == 0
    assert again.content == whole.content
    assert sum(map(made_by, deployment.engine.calls)) == FRAMES - again.header.resumed_frame_count


async def test_checkpoints_of_several_gateways_with_one_key_follow_each_other(tmp_path: Path, asked: Request) -> None:
    """The later gateways already mark with a new key; this utterance keeps the key that it began with."""
    states: list[bytes] = []
    whole = b""
    for active_key in ("key-1", "key-2", "key-3"):
        async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
            deployment.engine.frame_count = FRAMES
            deployment.codec.info.active_key_id = active_key
            rest = await receive(tts, asked, states)
            whole = whole or rest.content
            assert {call.request.watermark_key_id for call in deployment.codec.calls} == {"key-1"}
            assert rest.content == whole[2 * (rest.begin or 0) :] and rest.end == len(whole) // 2
            assert rest.begin == rest.header.first_sample_offset and bool(rest.begin) == bool(states)
            states += rest.states[:2]
    assert len(states) == 6


async def test_an_utterance_that_the_engine_had_finished_needs_no_engine(running: Running, asked: Request) -> None:
    deployment, tts = running
    deployment.engine.script = Script()
    deployment.codec.script.pause_at = 20
    reading = asyncio.create_task(receive(tts, asked))
    async with asyncio.timeout(60):
        await deployment.codec.script.paused.wait()
        await deployment.engine.calls[0].ended.wait()
        deployment.codec.script.resume.set()
        whole = await reading
    deployment.codec.script.pause_at = None
    forget(deployment)
    rest = await receive(tts, asked, whole.states[:-2])
    assert rest.header.resumed_frame_count == FRAMES and not deployment.engine.calls
    assert rest.content == whole.content[2 * (rest.begin or 0) :]
    assert without_times(rest.summary) == without_times(whole.summary)


async def test_a_checkpoint_holds_the_engine_s_end_even_without_new_frames(running: Running, asked: Request) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_OGG_OPUS
    deployment.engine.script = Script(pause_at=FRAMES)  # all frames made, and not yet its end
    deployment.codec.info.latency_sample_count = 10 * FRAME_SAMPLES  # audio that is still to come then
    whole = Received()
    async with asyncio.timeout(60):
        async for message in tts.StreamSynthesize(asked):
            if message.HasField("checkpoint"):
                whole.states.append(message.checkpoint.state)
            whole.content += message.audio_chunk.audio_content
            if whole.states:
                deployment.engine.script.resume.set()
    forget(deployment)
    rest = await receive(tts, asked, whole.states)
    assert rest.content == whole.content and not deployment.engine.calls


async def test_generated_frames_are_sent_before_an_engine_answers(running: Running, asked: Request) -> None:
    """And it waits for room at a full engine, as the caller already has audio."""
    deployment, tts = running
    asked.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_OGG_OPUS
    whole = await receive(tts, asked)
    forget(deployment)
    full = StatusError(grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", "There is no room.")
    deployment.engine.refusals = [full, full]
    deployment.engine.may_start.clear()
    content = b""
    async with asyncio.timeout(60):
        async for message in tts.StreamSynthesize(with_states(asked, whole.states[:1])):
            content += message.audio_chunk.audio_content
            if content:
                deployment.engine.may_start.set()
    assert content == whole.content and len(deployment.engine.calls) == 3


async def test_an_engine_lost_after_the_resume_is_replaced(running: Running, asked: Request) -> None:
    deployment, tts = running
    whole = await receive(tts, asked)
    forget(deployment)
    deployment.engine.script = InStep(deployment.codec, lost_at=30)
    rest = await receive(tts, asked, whole.states[:1])
    assert rest.content == whole.content[whole.places[0][1] :]
    assert without_times(rest.summary) == without_times(whole.summary)
    assert len(deployment.engine.calls) == 2
    assert sum(map(made_by, deployment.engine.calls)) == FRAMES - rest.header.resumed_frame_count


async def test_a_cancel_ends_the_calls_of_both_stages(running: Running, asked: Request) -> None:
    """Even while frames of a checkpoint are decoded and the engine has not answered yet."""
    deployment, tts = running
    asked.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_OGG_OPUS
    whole = await receive(tts, asked)
    forget(deployment)
    deployment.engine.may_start.clear()
    call = tts.StreamSynthesize(with_states(asked, whole.states[:1]))
    async with asyncio.timeout(60):
        await read_until_audio(call)
        call.cancel()
        for stage in (deployment.engine, deployment.codec):
            await stage.calls[0].ended.wait()


async def test_a_gateway_without_the_key_restarts_the_utterance(tmp_path: Path, asked: Request) -> None:
    async with sealing_gateway(tmp_path / "seals.json") as (_, tts):
        whole = await receive(tts, asked)
    later_version = STATE_MAGIC[:-1] + b"\xff" + whole.states[0][len(STATE_MAGIC) :]
    for keys, states in (("other.json", whole.states[:2]), ("seals.json", [later_version])):
        async with sealing_gateway(tmp_path / keys) as (deployment, tts):
            again = await receive(tts, asked, states)
            assert (again.header.resumed_frame_count, again.header.first_sample_offset) == (0, 0)
            assert again.content == whole.content
            after = await receive(tts, asked, again.states)  # these states replace those that were sent
            assert after.header.resumed_frame_count > 0
            assert [resumed_streams(deployment, "utterance", at) for at in ("start", "checkpoint")] == [1, 1]
    for sealing in ("open", "off"):
        async with sealing_gateway(tmp_path / "none.json", code_sealing=sealing) as (_, tts):
            asked.return_codes = sealing == "open"
            again = await receive(tts, asked, whole.states[:2])
            assert again.content == whole.content and not again.states


async def test_no_checkpoints_are_sent_unless_requested(running: Running, asked: Request) -> None:
    _, tts = running
    whole = await receive(tts, asked)
    asked.stream_config.send_checkpoints = False
    plain = await receive(tts, asked)
    assert not plain.states and plain.content == whole.content
    rest = await receive(tts, asked, whole.states[:2])
    assert not rest.states and rest.content == whole.content[whole.places[1][1] :]


async def test_checkpoints_show_no_code_and_are_small(running: Running, asked: Request) -> None:
    _, tts = running
    received = await receive(tts, asked)
    frame = fake_frames(6, 1).codes
    assert not any(frame[:16] in state or asked.input.text.encode() in state for state in received.states)
    assert sum(map(len, received.states)) < 64 * FRAMES + 260 * len(received.states)


async def test_checkpoints_that_do_not_belong_here_are_refused(running: Running, asked: Request) -> None:
    deployment, tts = running
    states = (await receive(tts, asked)).states
    other_call = (await receive(tts, asked)).states
    for given, index, reason in broken_chains(states, other_call):
        found = await refusal(tts.StreamSynthesize(with_states(asked, given)))
        assert found == (f"stream_config.checkpoints[{index}]", reason)
    assert failures(deployment, "CHECKPOINT_OUT_OF_ORDER") == 4
    for change in OTHER_REQUESTS:
        other = with_states(asked, states[:1])
        other.MergeFrom(change)
        found = await refusal(tts.StreamSynthesize(other))
        assert found == ("stream_config.checkpoints[0]", "CHECKPOINT_OTHER_REQUEST"), change
    as_text = Request()
    as_text.CopyFrom(with_states(asked, states[:1]))
    as_text.input.text = ""
    found = await refusal(tts.StreamSynthesizeText(messages_of(as_text, [])))
    assert found[1] in ("CHECKPOINT_OTHER_REQUEST", "CHECKPOINT_CHANGED")
    change_model(deployment)
    found = await refusal(tts.StreamSynthesize(with_states(asked, states[:1])))
    assert found == ("stream_config.checkpoints[0]", "CHECKPOINT_OTHER_REQUEST")


OTHER_REQUESTS = [
    Request(input=tts_pb2.SynthesisInput(text="Hello from another side.")),
    Request(sampling_params=tts_pb2.SamplingParams(seed=8)),
    Request(sampling_params=tts_pb2.SamplingParams(temperature=0.3)),
    Request(input=tts_pb2.SynthesisInput(speaker=2)),
    Request(voice=tts_pb2.VoiceSelection(name="ada")),
    Request(voice=tts_pb2.VoiceSelection(name="bo"), input=tts_pb2.SynthesisInput(speaker=2)),
    Request(audio_config=tts_pb2.AudioConfig(speed=2)),
    Request(audio_config=tts_pb2.AudioConfig(sample_rate_hertz=8000)),
    Request(audio_config=tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_WAV)),
    Request(context=tts_pb2.SynthesisContext(turns=[tts_pb2.Turn(speaker=1, text="Well.")])),
    Request(max_audio_duration={"seconds": 9}),
]
