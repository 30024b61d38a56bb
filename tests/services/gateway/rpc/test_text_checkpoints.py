"""A text goes on at the checkpoints of an earlier call: the same audio, and no said sentence is made again."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.gateway.auth.code_sealing import MAGIC, STATE_MAGIC
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES
from tests.support.text_streams import messages_of

Code = grpc.StatusCode
Config = tts_pb2.StreamSynthesizeRequest
FRAMES = [10, 0, 3, 12, 1]  # of each sentence
TEXT = ["One is first. ", "No sound. Three. ", "Four is much long", "er. Five."]
ENCODINGS = {name.removeprefix("AUDIO_ENCODING_").lower(): value for name, value in tts_pb2.AudioEncoding.items()}


@dataclass
class Heard:
    """What one call has sent."""

    header: tts_pb2.SynthesisHeader = field(default_factory=tts_pb2.SynthesisHeader)
    sentences: list[tts_pb2.Sentence] = field(default_factory=list)
    content: bytes = b""
    end: int = 0  # sample behind the audio
    states: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)  # samples, bytes and sentences before each state
    summary: tts_pb2.SynthesisSummary = field(default_factory=tts_pb2.SynthesisSummary)


async def hear(tts: Any, config: Config, text: Sequence[str] = TEXT, after: Sequence[bytes] = ()) -> Heard:
    asked = Config()
    asked.CopyFrom(config)
    asked.stream_config.checkpoints.extend(after)
    heard, first = Heard(), True
    async for message in tts.StreamSynthesizeText(messages_of(asked, text)):
        match message.WhichOneof("event"):
            case "header":
                heard.header = message.header
            case "sentence":
                heard.sentences.append(message.sentence)
            case "audio_chunk":
                chunk = message.audio_chunk
                assert first or chunk.sample_offset == heard.end
                first, heard.end = False, chunk.sample_offset + chunk.sample_count
                heard.content += chunk.audio_content
            case "checkpoint":
                heard.states.append(message.checkpoint.state)
                heard.places.append((heard.end, len(heard.content), len(heard.sentences)))
            case "summary":
                heard.summary = message.summary
    return heard


@asynccontextmanager
async def gateway(keys: Path, **settings: Any) -> AsyncIterator[tuple[FakeDeployment, Any]]:
    noise = random.Random(1).randbytes(2 * FRAME_SAMPLES * 40)  # no two frames are alike

    def audio_of(frames: range) -> bytes:
        return noise[2 * FRAME_SAMPLES * frames.start : 2 * FRAME_SAMPLES * frames.stop]

    settings = {"code_sealing": "sealed", "code_sealing_keyring": keys} | settings
    async with (
        fake_deployment(**settings) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        deployment.engine.frame_counts = FRAMES * 100
        deployment.codec.audio_of = audio_of
        yield deployment, tts_pb2_grpc.TextToSpeechServiceStub(channel)


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
    """The next call of the engine makes that sentence."""
    deployment.engine.frame_counts = FRAMES[sentence:] + FRAMES * 100
    deployment.engine.calls.clear()
    deployment.codec.calls.clear()


def without_times(summary: tts_pb2.SynthesisSummary) -> tts_pb2.SynthesisSummary:
    kept = tts_pb2.SynthesisSummary()
    kept.CopyFrom(summary)
    for name in ("queue_duration", "first_audio_latency", "total_duration"):
        kept.stats.ClearField(name)  # type: ignore[arg-type]
    kept.ClearField("sealed_codes")  # sealed anew each time
    return kept


@pytest.mark.parametrize(
    ("encoding", "rate_hz", "speed"),
    [("pcm", 0, 1.0), ("wav", 0, 1.0), ("pcm", 11_025, 1.0), ("mulaw", 8_000, 1.0), ("flac", 44_100, 1.0)],
)
async def test_a_text_goes_on_after_each_sentence_bit_for_bit(
    running: tuple[FakeDeployment, Any], asked: Config, encoding: str, rate_hz: int, speed: float
) -> None:
    deployment, tts = running
    asked.audio_config.audio_encoding, asked.audio_config.sample_rate_hertz = ENCODINGS[encoding], rate_hz  # type: ignore[assignment]
    begin(deployment, 0)
    whole = await hear(tts, asked)
    requests = [call.request for call in deployment.engine.calls]
    clips = [call.request.resume for call in deployment.codec.calls]
    assert len(whole.states) == len(whole.sentences) == len(FRAMES) and whole.summary.stats.frame_count == sum(FRAMES)
    for count in range(1, len(FRAMES) + 1):
        begin(deployment, count)
        rest = await hear(tts, asked, after=whole.states[:count])
        samples, num_bytes, num_sentences = whole.places[count - 1]
        assert (rest.header.resumed_sentence_count, rest.header.first_sentence_index) == (count, count)
        assert rest.sentences == whole.sentences[num_sentences:] and num_sentences == count
        assert rest.content == whole.content[num_bytes:]
        assert rest.end in (whole.end, 0) and samples <= whole.end
        assert without_times(rest.summary) == without_times(whole.summary)
        # Nothing that was said is made or decoded again.
        assert [call.request.segments for call in deployment.engine.calls] == [r.segments for r in requests[count:]]
        assert [call.request.sampling_params.seed for call in deployment.engine.calls] == [
            7 + n for n in range(count, 5)
        ]
        assert [call.request.max_frame_count for call in deployment.engine.calls] == [
            request.max_frame_count for request in requests[count:]
        ]
        assert [call.request.resume for call in deployment.codec.calls] == clips[count:]
        assert len(rest.states) == len(FRAMES) - count
