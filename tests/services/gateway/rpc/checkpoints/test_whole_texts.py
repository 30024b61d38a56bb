"""A text sent in one request goes on wherever it was lost: the same audio, and no frame of a checkpoint again."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from csm.v1 import tts_pb2

from services.gateway.auth.code_sealing import CodeSeal
from tests.services.gateway.rpc.checkpoints.sealing_gateway import (
    ENCODINGS,
    broken_chains,
    refusal,
    resumed_streams,
    sealing_gateway,
    without_times,
)
from tests.services.gateway.rpc.checkpoints.test_any_text import (
    SENTENCES,
    LostAtRandom,
    StretchingCodec,
    any_config,
    any_counts,
    asked_of_engines,
)
from tests.services.gateway.rpc.checkpoints.test_inside_sentences import FRAMES, Running, run_in_lockstep
from tests.services.gateway.rpc.checkpoints.utterances import Request, decoded_by, forget, made_by, receive, with_states
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import fake_frames, fake_identity

TEXT = " ".join(FRAMES)
ALL_FRAMES = sum(FRAMES.values())
FIELD = "stream_config.checkpoints"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        run_in_lockstep(deployment)
        yield deployment, tts


@pytest.fixture
def asked(stream_request: Request) -> Request:
    stream_request.input.text = TEXT
    stream_request.stream_config.send_checkpoints = True
    stream_request.sampling_params.seed, stream_request.input.speaker, stream_request.return_codes = 7, 1, True
    stream_request.context.turns.add(speaker=0, text="Hello?")
    return stream_request


@pytest.mark.parametrize(
    ("encoding", "rate_hz"), [("pcm", 0), ("wav", 0), ("pcm", 11_025), ("mulaw", 8_000), ("flac", 0), ("flac", 44_100)]
)
async def test_a_whole_text_resumes_at_each_checkpoint_bit_for_bit(
    running: Running, asked: Request, tmp_path: Path, encoding: str, rate_hz: int
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding, asked.audio_config.sample_rate_hertz = ENCODINGS[encoding], rate_hz  # type: ignore[assignment]
    whole = await receive(tts, asked)
    requests = asked_of_engines(deployment.engine)
    clips = [call.request.resume for call in deployment.codec.calls]
    assert len(whole.states) >= len(FRAMES) + 5 and whole.summary.stats.frame_count == ALL_FRAMES
    seal, num_inside = CodeSeal(tmp_path / "seals.json"), 0
    for count, (sample, num_bytes) in enumerate(whole.places, 1):
        forget(deployment)
        rest = await receive(tts, asked, whole.states[:count])
        first_sample, num_resumed = rest.header.first_sample_offset, rest.header.resumed_frame_count
        assert not (rest.header.resumed_sentence_count or rest.header.first_sentence_index), "it knows no sentences"
        assert num_resumed > 0 and first_sample in (0, sample)
        num_inside += first_sample == sample
        assert rest.content == whole.content[num_bytes if first_sample else 0 :]
        assert not rest.content or (rest.begin, rest.end) == (first_sample, whole.end)
        assert without_times(rest.summary) == without_times(whole.summary)
        assert seal.open(rest.summary.sealed_codes, fake_identity()).frame_count == ALL_FRAMES
        assert sum(map(made_by, deployment.engine.calls)) == ALL_FRAMES - num_resumed
        assert asked_of_engines(deployment.engine).items() <= requests.items()
        if first_sample:
            again = [call.request.resume for call in deployment.codec.calls]
            assert again == clips[len(clips) - len(again) :], "the clip as it is there"
            heard_frames = first_sample * 24_000 // (rate_hz or 24_000) // 1920
            assert sum(map(decoded_by, deployment.codec.calls)) <= ALL_FRAMES - heard_frames + 3 + 5
    assert num_inside >= len(whole.states) - 4
    assert resumed_streams(deployment, "text", "checkpoint") == num_inside


@pytest.mark.parametrize("encoding", ["ogg_opus", "mp3", "aac", "pcm"])
async def test_encodings_that_cannot_resume_decode_frames_again_without_the_engine(
    running: Running, asked: Request, encoding: str
) -> None:
    """At speeds other than 1 that holds inside sentences."""
    deployment, tts = running
    asked.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    deployment.codec.sends_checkpoints = encoding != "pcm"  # as at other speeds than 1
    whole = await receive(tts, asked)
    num_again = 0
    for count, (sample, num_bytes) in enumerate(whole.places, 1):
        forget(deployment)
        rest = await receive(tts, asked, whole.states[:count])
        first_sample, num_resumed = rest.header.first_sample_offset, rest.header.resumed_frame_count
        num_again += not first_sample
        assert first_sample in (0, sample) and num_resumed > 0
        assert rest.content == whole.content[num_bytes if first_sample else 0 :]
        assert without_times(rest.summary) == without_times(whole.summary)
        assert sum(map(made_by, deployment.engine.calls)) == ALL_FRAMES - num_resumed
    assert num_again == (len(whole.states) - len(FRAMES) if encoding == "pcm" else len(whole.states))


@pytest.mark.parametrize("most", [1, 2])
async def test_checkpoints_of_several_gateways_with_one_key_follow_each_other(
    tmp_path: Path, asked: Request, most: int
) -> None:
    """The later gateways already mark with a new key; this clip keeps the key that it began with."""
    states: list[bytes] = []
    whole, calls, sample = b"", 0, 0
    while calls < 30:
        calls += 1
        async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
            run_in_lockstep(deployment)
            deployment.codec.info.active_key_id = f"key-{calls}"
            rest = await receive(tts, asked, states)
            whole = whole or rest.content
            assert rest.header.first_sample_offset == sample, "at the last checkpoint"
            assert {call.request.watermark_key_id for call in deployment.codec.calls} <= {"key-1"}
            assert rest.content == whole[2 * rest.header.first_sample_offset :]
            if not rest.states:
                break
            states += rest.states[:most]
            sample = rest.places[:most][-1][0]
    assert 4 < calls < 30


@pytest.mark.parametrize("encoding", ["pcm", "wav", "flac"])
async def test_a_text_lost_before_its_first_frame_restarts(running: Running, asked: Request, encoding: str) -> None:
    """The header has the number of frames that are not made again. If that is 0, the caller must drop its states."""
    _, tts = running
    asked.input.text = "No sound. One is first. Four."
    asked.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    whole = await receive(tts, asked)
    assert whole.places[0][0] == 0 < whole.places[1][0], "the first state is of a sentence without sound"
    again = await receive(tts, asked, whole.states[:1])
    assert again.header.resumed_frame_count == 0
    assert again.content == whole.content
    rest = await receive(tts, asked, again.states[:2])
    assert rest.header.first_sample_offset == again.places[1][0]
    assert rest.content == whole.content[again.places[1][1] :]


async def test_checkpoints_show_no_code_and_are_small(running: Running, asked: Request) -> None:
    """Each frame is in one checkpoint only."""
    _, tts = running
    received = await receive(tts, asked)
    frame = fake_frames(6, 1).codes
    assert not any(frame[:16] in state or b"One is first" in state for state in received.states)
    assert sum(map(len, received.states)) < 64 * ALL_FRAMES + 450 * len(received.states)


async def test_a_gateway_without_the_key_restarts_the_text(tmp_path: Path, asked: Request) -> None:
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        run_in_lockstep(deployment)
        whole = await receive(tts, asked)
    async with sealing_gateway(tmp_path / "other.json") as (deployment, tts):
        run_in_lockstep(deployment)
        again = await receive(tts, asked, whole.states[:-1])
        assert (again.header.resumed_frame_count, again.header.first_sample_offset) == (0, 0)
        assert again.content == whole.content
        after = await receive(tts, asked, again.states)  # these states replace those that were sent
        assert after.header.resumed_frame_count == ALL_FRAMES


async def test_checkpoints_that_do_not_belong_here_are_refused(running: Running, asked: Request) -> None:
    _, tts = running
    states, other_call = (await receive(tts, asked)).states, (await receive(tts, asked)).states
    for given, index, reason in broken_chains(states, other_call):
        found = await refusal(tts.StreamSynthesize(with_states(asked, given)))
        assert found == (f"{FIELD}[{index}]", reason)
    for change in (
        Request(input=tts_pb2.SynthesisInput(as_one_utterance=True)),
        Request(input=tts_pb2.SynthesisInput(text=f"{TEXT} Five.")),
        Request(input=tts_pb2.SynthesisInput(text="One is first.")),
        Request(sampling_params=tts_pb2.SamplingParams(seed=8)),
    ):
        other = with_states(asked, states[:1])
        other.MergeFrom(change)
        found = await refusal(tts.StreamSynthesize(other))
        assert found == (f"{FIELD}[0]", "CHECKPOINT_OTHER_REQUEST"), change


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 16))])
async def test_a_random_text_resumes_at_any_checkpoint(tmp_path: Path, seed: int) -> None:
    """With any request, and with stages that are lost again."""
    rng = random.Random(seed)
    config = any_config(rng)
    config.input.text = " ".join(SENTENCES[: rng.randint(2, len(SENTENCES))])
    settings = {"decode_ahead_frames": rng.choice([1, 5, 50]), "max_batch_frame_count": rng.choice([0, 1, 9])}
    settings["max_remembered_sentences"] = rng.choice([0, 1, 3])
    async with sealing_gateway(tmp_path / "seals.json", codec=StretchingCodec, **settings) as (deployment, tts):
        use_random_frame_counts(deployment, rng)
        whole = await receive(tts, config)
        asked = asked_of_engines(deployment.engine)
        for count in rng.sample(range(len(whole.states) + 1), min(4, len(whole.states) + 1)):
            forget(deployment)
            deployment.engine.script, deployment.codec.script = LostAtRandom(rng, 2), LostAtRandom(rng, 1)
            rest = await receive(tts, config, whole.states[:count])
            assert asked_of_engines(deployment.engine).items() <= asked.items()
            first_sample = rest.header.first_sample_offset
            assert first_sample in (0, whole.places[count - 1][0])
            assert rest.content == whole.content[whole.places[count - 1][1] if first_sample else 0 :]
            assert rest.end == whole.end or not rest.content
            assert without_times(rest.summary) == without_times(whole.summary)


def use_random_frame_counts(deployment: FakeDeployment, rng: random.Random) -> None:
    deployment.engine.frame_counts = any_counts(deployment.engine, rng)  # type: ignore[assignment]
    deployment.codec.checkpoint_lag = rng.choice([0, 7, 100])
    deployment.codec.info.latency_sample_count = rng.choice([0, 3000])
