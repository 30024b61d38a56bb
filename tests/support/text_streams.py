"""For tests of StreamSynthesizeText: a text in pieces, its request messages, and the codes returned for it."""

from __future__ import annotations

from collections.abc import Sequence

from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from tests.support.fake_stages import CODEBOOKS, fake_frames

Message = tts_pb2.StreamSynthesizeTextRequest
PIECES = ("Good mor", "ning. How ", "are you", "? I am fi", "ne.")


def messages_of(config: tts_pb2.StreamSynthesizeRequest, pieces: Sequence[str] = PIECES) -> list[Message]:
    return [Message(config=config), *(Message(text=tts_pb2.TextPiece(text=piece)) for piece in pieces)]


def fake_answer(*utterances: tuple[str, int]) -> rvq_pb2.CodeFrames:
    """The codes that the fakes return. utterances: (text, number of frames) of each; each begins with frame 0."""
    said = [fake_frames(0, count) for _, count in utterances]
    return rvq_pb2.CodeFrames(
        frame_count=sum(count for _, count in utterances),
        codebook_count=CODEBOOKS,
        codes=b"".join(frames.codes for frames in said),
        utterances=[rvq_pb2.Utterance(text=text, frame_count=count) for text, count in utterances],
    )
