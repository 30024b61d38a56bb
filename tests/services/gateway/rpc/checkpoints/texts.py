"""Calls of texts: what one has sent, and the places at which another can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from csm.v1 import tts_pb2

from tests.support.text_streams import messages_of

Config = tts_pb2.StreamSynthesizeRequest


@dataclass(frozen=True)
class Mark:
    """A place between two messages, and what a caller keeps there."""

    said: tuple[bytes, ...] = ()
    inside: tuple[bytes, ...] = ()
    sample: int = 0
    num_bytes: int = 0
    num_sentences: int = 0


@dataclass
class Heard:
    """What one call has sent."""

    header: tts_pb2.SynthesisHeader = field(default_factory=tts_pb2.SynthesisHeader)
    sentences: list[tts_pb2.Sentence] = field(default_factory=list)
    content: bytes = b""
    end: int = 0  # sample behind the audio
    marks: list[Mark] = field(default_factory=lambda: [Mark()])  # at the start and behind each checkpoint
    summary: tts_pb2.SynthesisSummary = field(default_factory=tts_pb2.SynthesisSummary)

    def mark(self, said: tuple[bytes, ...], inside: tuple[bytes, ...]) -> None:
        self.marks.append(Mark(said, inside, self.end, len(self.content), len(self.sentences)))

    @property
    def behind(self) -> list[Mark]:
        """Those behind sentences."""
        return [mark for mark in self.marks[1:] if not mark.inside]

    @property
    def states(self) -> list[bytes]:
        """Those of the sentences of this call."""
        return [mark.said[-1] for mark in self.behind]

    @property
    def inside(self) -> list[Mark]:
        """Those inside of sentences."""
        return [mark for mark in self.marks if mark.inside]


async def hear(tts: Any, config: Config, text: Sequence[str], at: Mark | None = None) -> Heard:
    """at: where the call goes on; its marks then keep what that one keeps"""
    at = at or Mark()
    heard = Heard()
    async for message in tts.StreamSynthesizeText(messages_of(with_states(config, at), text)):
        match message.WhichOneof("event"):
            case "header":
                heard.header = message.header
                said = at.said if message.header.resumed_sentence_count else ()
                inside = at.inside if message.header.resumed_frame_count else ()
            case "sentence":
                heard.sentences.append(message.sentence)
            case "audio_chunk":
                chunk = message.audio_chunk
                assert chunk.sample_offset == heard.end or not heard.content
                heard.end = chunk.sample_offset + chunk.sample_count
                heard.content += chunk.audio_content
            case "checkpoint":
                said, inside = (*said, message.checkpoint.state), ()
                heard.mark(said, inside)
            case "speech_checkpoint":
                inside = (*inside, message.speech_checkpoint.state)
                heard.mark(said, inside)
            case "summary":
                heard.summary = message.summary
    return heard


def with_states(config: Config, mark: Mark) -> Config:
    asked = Config()
    asked.CopyFrom(config)
    asked.stream_config.checkpoints.extend(mark.said)
    asked.stream_config.speech_checkpoints.extend(mark.inside)
    return asked
