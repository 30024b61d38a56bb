"""Calls of StreamSynthesize to fakes: what a call sends, and how many frames the stages made and decoded for it."""

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
class Received:
    """What one call has sent."""

    header: tts_pb2.SynthesisHeader = field(default_factory=tts_pb2.SynthesisHeader)
    content: bytes = b""
    begin: int | None = None  # the first sample
    end: int = 0  # the sample after the last one received
    states: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)  # (samples, bytes) received before each state
    summary: tts_pb2.SynthesisSummary = field(default_factory=tts_pb2.SynthesisSummary)


async def receive(tts: Any, request: Request, after: Sequence[bytes] = ()) -> Received:
    """Reads a call to its end. after: the states of earlier calls that it goes on from."""
    received = Received()
    async for message in tts.StreamSynthesize(with_states(request, after)):
        match message.WhichOneof("event"):
            case "header":
                received.header = message.header
                received.end = message.header.first_sample_offset
            case "audio_chunk":
                chunk = message.audio_chunk
                received.begin = chunk.sample_offset if received.begin is None else received.begin
                assert chunk.sample_offset == received.end
                received.end = chunk.sample_offset + chunk.sample_count
                received.content += chunk.audio_content
            case "checkpoint":
                received.states.append(message.checkpoint.state)
                received.places.append((received.end, len(received.content)))
            case "summary":
                received.summary = message.summary
    return received


def with_states(request: Request, states: Sequence[bytes]) -> Request:
    asked = Request()
    asked.CopyFrom(request)
    asked.stream_config.checkpoints.extend(states)
    return asked


class InStep(Script):
    """Lets the engine make a frame only when the codec is at most four frames behind."""

    def __init__(self, codec: FakeCodec, lost_at: int = FRAMES + 1) -> None:
        """lost_at: the frame before which the engine is lost, once."""
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
    """The number of frames that the engine made in this call."""
    return call.frame_count - call.request.resume_frames.frame_count


def decoded_by(call: CallRecord) -> int:
    """The number of frames that the codec decoded in this call."""
    begin = codec_pb2.StreamDecodeStarted.FromString(call.request.checkpoint)
    return call.frame_count - begin.first_frame_index
