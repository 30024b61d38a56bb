"""Sends planned requests to a server over gRPC at their times, and records each stream.

There is one task for each request, all on one event loop. Whatever can be computed after the run is. The channel has no
retries, so refusals are final. This module knows no percentiles and no playback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client.errors import IncompleteAudioError, ServerError, from_rpc_error
from csm_client.requests import Turn, stream_request
from csm_client.resuming.reader import SpeechReader

from bench.listeners.onset import AudibleOnset
from bench.listeners.playback import Arrival
from bench.listeners.probe import ProbeRecord, probe_forever
from bench.listeners.workload import PlannedRequest

Clock = Callable[[], float]  # seconds, monotonic
Outcome = Literal["complete", "refused", "failed"]


@dataclass(slots=True)
class StreamRecord:
    """A request as the client saw it. Times are seconds since the start of the run."""

    planned_at_s: float
    dispatched_at_s: float
    ended_at_s: float = 0.0
    outcome: Outcome = "complete"
    error: str = ""  # code and reason, such as "UNAVAILABLE QUEUE_FULL"
    message_at_s: list[float] = field(default_factory=list)  # of the header, the chunks and the summary
    audio: list[Arrival] = field(default_factory=list)
    onset_s: float | None = None  # where in the audio speech begins
    summary: tts_pb2.SynthesisSummary | None = None


@dataclass(slots=True)
class LoadRecord:
    """The record of one run."""

    streams: list[StreamRecord]
    probes: ProbeRecord


def open_channel(target: str) -> grpc.aio.Channel:
    """A channel without retries."""
    return grpc.aio.insecure_channel(target, options=[("grpc.enable_retries", 0)])


class Load:
    """A client of one server under one load."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        conversations: Sequence[Sequence[Turn]] = (),
        deadline_s: float = 60.0,
        probe_interval_s: float = 0.5,
        clock: Clock = time.perf_counter,
    ) -> None:
        """conversations: the turns that requests continue, by `PlannedRequest.conversation`. probe_interval_s: 0 is no
        probes.
        """
        self._channel = channel
        self._tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        self._conversations = conversations
        self._deadline_s = deadline_s
        self._probe_interval_s = probe_interval_s
        self._clock = clock
        self._began_s = 0.0

    async def run(self, requests: Sequence[PlannedRequest]) -> LoadRecord:
        """Runs the load until the last stream has ended, at its deadline at the latest. requests: in order of time."""
        self._began_s = self._clock()
        probes = ProbeRecord()
        probing = self._start_probing(probes)
        streams = []
        try:
            async with asyncio.TaskGroup() as group:
                for request in requests:
                    await asyncio.sleep(max(0.0, request.at_s - self._now_s()))
                    streams.append(group.create_task(self._stream(request)))
        finally:
            if probing is not None:
                probing.cancel()
                await asyncio.wait([probing])
        return LoadRecord([task.result() for task in streams], probes)

    def _now_s(self) -> float:
        return self._clock() - self._began_s

    async def _stream(self, request: PlannedRequest) -> StreamRecord:
        message = stream_request(
            request.text,
            {
                "speaker": request.speaker,
                "seed": request.seed,
                "max_seconds": request.max_audio_s,
                "context": self._conversations[request.conversation] if request.conversation is not None else (),
            },
        )
        record = StreamRecord(request.at_s, self._now_s())
        try:
            await self._read(message, record)
        except ServerError as error:
            record.outcome = "refused" if error.code is grpc.StatusCode.UNAVAILABLE and not record.audio else "failed"
            record.error = error.code.name if error.reason == error.code.name else f"{error.code.name} {error.reason}"
        except IncompleteAudioError as error:
            record.outcome, record.error = "failed", str(error)
        record.ended_at_s = self._now_s()
        return record

    async def _read(self, message: tts_pb2.StreamSynthesizeRequest, record: StreamRecord) -> None:
        reader = SpeechReader()
        onset = AudibleOnset(1)
        rate_hz = 0
        try:
            async for response in self._tts.StreamSynthesize(message, timeout=self._deadline_s):
                at_s = self._now_s()
                record.message_at_s.append(at_s)
                chunk = reader.accept(response)
                if not rate_hz and reader.header is not None:
                    rate_hz = reader.header.audio_format.sample_rate_hertz
                    onset = AudibleOnset(rate_hz)
                if chunk is not None and chunk.sample_count:
                    record.audio.append(Arrival(at_s, chunk.sample_count / rate_hz))
                    onset.feed(chunk.audio_content)
                    record.onset_s = onset.position_s
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        reader.end()
        record.summary = reader.summary

    def _start_probing(self, record: ProbeRecord) -> asyncio.Task[None] | None:
        if not self._probe_interval_s:
            return None
        return asyncio.create_task(probe_forever(self._channel, self._probe_interval_s, self._clock, record))
