"""Calls of StreamSynthesizeText: what a call sends, and the points from which another call can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from csm.v1 import tts_pb2

from tests.support.fake_stages import FakeEngine
from tests.support.text_streams import messages_of

Config = tts_pb2.StreamSynthesizeRequest


class CountsByText:
    """In place of a fake engine's `frame_counts`: the number of frames of the sentence that is asked for."""

    def __init__(self, engine: FakeEngine, frames: Mapping[str, int]) -> None:
        self._engine, self._frames = engine, frames

    def pop(self, index: int) -> int:
        return self._frames[self._engine.calls[-1].request.segments[-1].text]


@dataclass(frozen=True)
class ResumePoint:
    """A point between two messages of a call: the states that a caller keeps there, and what it has received."""

    sentence_states: tuple[bytes, ...] = ()  # of the checkpoints of all sentences before
    speech_states: tuple[bytes, ...] = ()  # of the checkpoints inside the current sentence
    sample: int = 0
    num_bytes: int = 0
    num_sentences: int = 0


@dataclass
class Received:
    """What one call has sent."""

    header: tts_pb2.SynthesisHeader = field(default_factory=tts_pb2.SynthesisHeader)
    sentences: list[tts_pb2.Sentence] = field(default_factory=list)
    content: bytes = b""
    end: int = 0  # the sample after the last one received
    points: list[ResumePoint] = field(default_factory=lambda: [ResumePoint()])  # at the start and after each checkpoint
    summary: tts_pb2.SynthesisSummary = field(default_factory=tts_pb2.SynthesisSummary)

    def add_point(self, sentence_states: tuple[bytes, ...], speech_states: tuple[bytes, ...]) -> None:
        point = ResumePoint(sentence_states, speech_states, self.end, len(self.content), len(self.sentences))
        self.points.append(point)

    @property
    def after_sentences(self) -> list[ResumePoint]:
        """The points after each sentence."""
        return [point for point in self.points[1:] if not point.speech_states]

    @property
    def inside_sentences(self) -> list[ResumePoint]:
        return [point for point in self.points if point.speech_states]

    @property
    def states(self) -> list[bytes]:
        """The state of each sentence of this call."""
        return [point.sentence_states[-1] for point in self.after_sentences]

    def sentence_start(self, point: ResumePoint) -> ResumePoint:
        """The point before the sentence that `point` is inside of."""
        return next(
            start
            for start in reversed(self.points)
            if start.sentence_states == point.sentence_states and not start.speech_states
        )


async def receive(tts: Any, config: Config, text: Sequence[str], at: ResumePoint | None = None) -> Received:
    """Reads a call to its end. at: where it goes on; its own points then include the states of that one."""
    at = at or ResumePoint()
    received = Received()
    sentence_states: tuple[bytes, ...] = ()
    speech_states: tuple[bytes, ...] = ()
    async for message in tts.StreamSynthesizeText(messages_of(with_states(config, at), text)):
        match message.WhichOneof("event"):
            case "header":
                received.header = message.header
                if message.header.resumed_sentence_count:
                    sentence_states = at.sentence_states
                if message.header.resumed_frame_count:
                    speech_states = at.speech_states
            case "sentence":
                received.sentences.append(message.sentence)
            case "audio_chunk":
                chunk = message.audio_chunk
                assert chunk.sample_offset == received.end or not received.content
                received.end = chunk.sample_offset + chunk.sample_count
                received.content += chunk.audio_content
            case "checkpoint":
                sentence_states, speech_states = (*sentence_states, message.checkpoint.state), ()
                received.add_point(sentence_states, speech_states)
            case "speech_checkpoint":
                speech_states = (*speech_states, message.speech_checkpoint.state)
                received.add_point(sentence_states, speech_states)
            case "summary":
                received.summary = message.summary
    return received


def with_states(config: Config, point: ResumePoint) -> Config:
    """The config of a call that goes on at the point."""
    asked = Config()
    asked.CopyFrom(config)
    asked.stream_config.checkpoints.extend(point.sentence_states)
    asked.stream_config.speech_checkpoints.extend(point.speech_states)
    return asked
