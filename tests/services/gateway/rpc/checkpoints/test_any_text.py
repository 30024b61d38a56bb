"""Any text, lost anywhere, with stages that are lost again: the same bytes, from the same requests to the engine."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.common.rpc.status import StatusError
from tests.services.gateway.rpc.checkpoints.sealing_gateway import ENCODINGS, sealing_gateway, without_times
from tests.services.gateway.rpc.checkpoints.texts import Config, CountsByText, receive
from tests.services.gateway.rpc.checkpoints.utterances import forget
from tests.support.fake_stages import CallRecord, FakeCodec, FakeEngine, Script

SENTENCES = ("One is first.", "No sound.", "Three is long.", "Four.", "Five comes at last, I think.", "Six!")
SPEEDS = (0.0, 0.0, 0.0, 0.5, 2.0)


class LostAtRandom(Script):
    """Loses a stage at random frames, at most so many times."""

    def __init__(self, rng: random.Random, most: int) -> None:
        super().__init__()
        self._rng, self._left = rng, most

    async def reach(self, frame: int) -> None:
        await asyncio.sleep(0)
        if self._left and self._rng.random() < 0.1:
            self._left -= 1
            raise StatusError(grpc.StatusCode.UNAVAILABLE, "LEAVING", "Another one goes on.")


def any_counts(engine: FakeEngine, rng: random.Random) -> CountsByText:
    """A random number of frames for each sentence."""
    return CountsByText(engine, {text: rng.choice([0, 1, 2, 7, 12, 23, 30]) for text in SENTENCES})


class StretchingCodec(FakeCodec):
    """A codec for two other speeds, at which no codec has checkpoints."""

    async def _decode(self, frames: rvq_pb2.CodeFrames, call: CallRecord) -> bytes:
        samples = await super()._decode(frames, call)
        size = len(samples) // frames.frame_count
        parts = [samples[at : at + size] for at in range(0, len(samples), size)]
        match call.request.speed:
            case 2.0:
                return b"".join(part[: size // 2] for part in parts)
            case 0.5:
                return b"".join(2 * part for part in parts)
        return samples

    def _checkpoint(self, call: CallRecord) -> codec_pb2.StreamDecodeCheckpoint | None:
        return super()._checkpoint(call) if call.request.speed == 1 else None


def any_config(rng: random.Random) -> Config:
    config = Config()
    encoding = rng.choice(["pcm", "wav", "mulaw", "alaw", "flac", "ogg_opus", "mp3", "aac"])
    rates_hz = [0, 8000, 48_000] if encoding == "ogg_opus" else [0, 8000, 11_025, 22_050, 44_100, 48_000]
    config.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    config.audio_config.sample_rate_hertz, config.audio_config.speed = rng.choice(rates_hz), rng.choice(SPEEDS)
    config.sampling_params.seed, config.return_codes = rng.choice([7, 2**63 - 2]), rng.random() < 0.5
    config.stream_config.send_checkpoints = True
    if chunk_ms := rng.choice([0, 80, 200, 1300]):
        config.stream_config.chunk_duration.FromMilliseconds(chunk_ms)
    if most_ms := rng.choice([0, 0, 1000, 3040]):
        config.max_audio_duration.FromMilliseconds(most_ms)
    if rng.random() < 0.5:
        config.context.turns.add(speaker=0, text="Hello?")
    return config


def pieces(text: str, rng: random.Random) -> list[str]:
    cuts = sorted({0, len(text), *(rng.randrange(len(text)) for _ in range(6))})
    return [text[begin:end] for begin, end in zip(cuts, cuts[1:], strict=False)]


def asked_of_engines(engine: FakeEngine) -> dict[str, Any]:
    """For each sentence, everything in its request that decides its frames."""
    asked: dict[str, Any] = {}
    for call in engine.calls:
        request = type(call.request).FromString(call.request.SerializeToString())
        for field in (
            "resume_frames", "has_listener", "playout_lead", "live", "request_id", "first_batch_frame_count",
        ):  # fmt: skip
            request.ClearField(field)
        assert asked.setdefault(request.segments[-1].text, request) == request
    return asked


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))])
async def test_a_random_text_resumes_at_any_checkpoint(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    config = any_config(rng)
    text = pieces(" ".join(SENTENCES[: rng.randint(1, len(SENTENCES))]), rng)
    settings = {"decode_ahead_frames": rng.choice([1, 5, 50]), "max_batch_frame_count": rng.choice([0, 1, 9])}
    settings["max_remembered_sentences"] = rng.choice([0, 1, 3])
    async with sealing_gateway(tmp_path / "seals.json", codec=StretchingCodec, **settings) as (deployment, tts):
        engine, codec = deployment.engine, deployment.codec
        engine.frame_counts = any_counts(engine, rng)  # type: ignore[assignment]
        codec.checkpoint_lag, codec.info.latency_sample_count = rng.choice([0, 7, 100]), rng.choice([0, 3000])
        whole = await receive(tts, config, text)
        asked = asked_of_engines(engine)
        for point in rng.sample(whole.points, min(3, len(whole.points))):
            forget(deployment)
            engine.script, codec.script = LostAtRandom(rng, 2), LostAtRandom(rng, 1)
            rest = await receive(tts, config, text, point)
            assert asked_of_engines(engine).items() <= asked.items()
            assert any(
                rest.content == whole.content[begin.num_bytes :]
                and rest.sentences == whole.sentences[begin.num_sentences :]
                for begin in whole.points[: whole.points.index(point) + 1]
            )
            assert rest.end == whole.end or not rest.content
            assert without_times(rest.summary) == without_times(whole.summary)
