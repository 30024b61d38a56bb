"""A gateway that seals codes, in front of fakes whose frames all sound different."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.gateway.auth.code_sealing import MAGIC
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES

MOST_FRAMES = 64  # that a call may decode
ENCODINGS = {name.removeprefix("AUDIO_ENCODING_").lower(): value for name, value in tts_pb2.AudioEncoding.items()}


@asynccontextmanager
async def sealing_gateway(keys: Path, **settings: Any) -> AsyncIterator[tuple[FakeDeployment, Any]]:
    noise = random.Random(1).randbytes(2 * FRAME_SAMPLES * MOST_FRAMES)

    def audio_of(frames: range) -> bytes:
        return noise[2 * FRAME_SAMPLES * frames.start : 2 * FRAME_SAMPLES * frames.stop]

    sealing: dict[str, Any] = {"code_sealing": "sealed", "code_sealing_keyring": keys, "failover_wait_seconds": 20.0}
    async with (
        fake_deployment(**(sealing | settings)) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        deployment.codec.audio_of = audio_of
        yield deployment, tts_pb2_grpc.TextToSpeechServiceStub(channel)


def without_times(summary: tts_pb2.SynthesisSummary) -> tts_pb2.SynthesisSummary:
    """The part of a summary that two calls have in common."""
    kept = tts_pb2.SynthesisSummary()
    kept.CopyFrom(summary)
    for name in ("queue_duration", "first_audio_latency", "total_duration"):
        kept.stats.ClearField(name)  # type: ignore[arg-type]
    kept.ClearField("sealed_codes")  # each seal is different
    return kept


def resumed_streams(deployment: FakeDeployment, kind: str, at: str) -> float | None:
    registry = deployment.gateway.server.metrics.registry
    return registry.get_sample_value("tts_resumed_streams_total", {"kind": kind, "at": at})


def change_model(deployment: FakeDeployment) -> None:
    deployment.engine.info.weights_digest = "other"
    deployment.gateway._catalogs.forget()


async def refusal(call: Any) -> tuple[str, str]:
    """The field and the reason of a call, which must be refused."""
    error = await failure(call)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = error.field_violations
    return violation.field, violation.reason


def failures(deployment: FakeDeployment, reason: str) -> float | None:
    """As counted by the gateway."""
    registry = deployment.gateway.server.metrics.registry
    return registry.get_sample_value("tts_failed_total", {"reason": reason})


def broken_chains(states: list[bytes], other_call: list[bytes]) -> list[tuple[list[bytes], int, str]]:
    """Lists of states that no call can go on with: (states to send, index of the wrong one, reason of the refusal).

    states: of one call, at least three. other_call: the states of another call with the same request.
    """
    changed = bytearray(states[1])
    changed[len(changed) // 2] ^= 1
    return [
        ([states[0], bytes(changed)], 1, "CHECKPOINT_CHANGED"),
        ([states[0][:-1]], 0, "CHECKPOINT_CHANGED"),
        *(([states[0][:length]], 0, "CHECKPOINT_CHANGED") for length in (0, 3, 4, 5, 6)),  # its kind ends at 4
        ([MAGIC + states[0][len(MAGIC) :]], 0, "CHECKPOINT_CHANGED"),
        ([states[1]], 0, "CHECKPOINT_OUT_OF_ORDER"),
        ([states[0], states[2]], 1, "CHECKPOINT_OUT_OF_ORDER"),
        ([states[0], states[0]], 1, "CHECKPOINT_OUT_OF_ORDER"),
        ([states[0], other_call[1]], 1, "CHECKPOINT_OUT_OF_ORDER"),
    ]
