"""Utterances of stand-ins: what a call sends, an engine in step with the codec, and what either has done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2

from services.common.rpc.status import StatusError
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import CallRecord, FakeCodec, Script

Request = tts_pb2.StreamSynthesizeRequest
FRAMES = 43


@dataclass
class Heard:
    """What one call has sent."""

    header: tts_pb2.SynthesisHeader = field(default_factory=tts_pb2.SynthesisHeader)
    content: bytes = b""
    begin: int | None = None  # first sample
    end: int = 0  # sample behind the audio
    states: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)  # samples and bytes before each state
    summary: tts_pb2.SynthesisSummary = field(default_factory=tts_pb2.SynthesisSummary)


async def hear(tts: Any, request: Request, after: Sequence[bytes] = ()) -> Heard:
    heard = Heard()
    async for message in tts.StreamSynthesize(with_states(request, after)):
        match message.WhichOneof("event"):
            case "header":
                heard.header = message.header
                heard.end = message.header.first_sample_offset
            case "audio_chunk":
                chunk = message.audio_chunk
                heard.begin = chunk.sample_offset if heard.begin is None else heard.begin
                assert chunk.sample_offset == heard.end
                heard.end = chunk.sample_offset + chunk.sample_count
                heard.content += chunk.audio_content
            case "checkpoint":
                heard.states.append(message.checkpoint.state)
                heard.places.append((heard.end, len(heard.content)))
            case "summary":
                heard.summary = message.summary
    return heard


def with_states(request: Request, states: Sequence[bytes]) -> Request:
    asked = Request()
    asked.CopyFrom(request)
    asked.stream_config.checkpoints.extend(states)
    return asked


class InStep(Script):
    """The engine makes no frame before the one four before it is decoded."""

    def __init__(self, codec: FakeCodec, lost_at: int = FRAMES + 1) -> None:
        """lost_at: frame before which it is lost, once"""
        super().__init__()
        self._codec, self._lost_at = codec, lost_at

    async def reach(self, frame: int) -> None:
        if frame >= self._lost_at:
            self._lost_at = FRAMES + 1
            raise StatusError(grpc.StatusCode.UNAVAILABLE, "LEAVING", "Another one goes on.")
        while frame > 4 + (self._codec.calls[-1].frame_count if self._codec.calls else 0):
            await asyncio.sleep(0.001)


def forget(deployment: FakeDeployment) -> None:
    deployment.engine.calls.clear()
    deployment.codec.calls.clear()


def made_by(call: CallRecord) -> int:
    """Frames that the engine made in this call."""
    return call.frame_count - call.request.resume_frames.frame_count


def decoded_by(call: CallRecord) -> int:
    begin = codec_pb2.StreamDecodeStarted.FromString(call.request.checkpoint)
    return call.frame_count - begin.first_frame_index
