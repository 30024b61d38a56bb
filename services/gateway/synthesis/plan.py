"""The plan of a synthesis: a checked request with every default filled in. It knows no RPC and no backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from csm_bundle.sampling import SamplingParams
from services.gateway.audio.recording import Recording


@dataclass(frozen=True, slots=True)
class ContextTurn:
    """A turn of the conversation so far: with a recording until it is encoded, with codes, or with words only."""

    speaker: int
    text: str
    recording: Recording | None = None
    codes: rvq_pb2.CodeFrames | None = None


@dataclass(frozen=True, slots=True)
class SynthesisPlan:
    """One utterance to synthesize, or a text of several."""

    request_id: str
    text: str  # of a text of several utterances, the first sentence; "" while it is unknown
    speaker: int
    voice: str
    turns: tuple[ContextTurn, ...]
    sampling: SamplingParams
    max_frames: int  # of all utterances together
    max_utterance_frames: int  # of each
    encoding: tts_pb2.AudioEncoding
    sample_rate_hz: int  # of the audio that the caller gets
    return_codes: bool
    chunk_frames: int  # frames per message to the client; 0 sends audio as it comes
    first_batch_frames: int  # frames of the engine's first message
    max_batch_frames: int  # frames of its later messages; 0 is the engine's choice
    live: bool  # the caller plays the audio while it is generated; in a text, from `heard_frames` on
    prompt: ContextTurn | None = None  # of the voice; it comes before the turns and is never dropped
    prompt_id: str = ""  # see ChosenVoice
    language_code: str = ""  # of the request or of the voice; "" when neither says
    seal: Callable[[rvq_pb2.CodeFrames], bytes] | None = None  # seals returned codes; None returns them unsealed
    conversation: str = ""  # key that leads to the conversation's engine; "" is none
    speed: float = 1.0  # of the speech; 1 is as the model speaks
    heard_frames: int = 0  # frames that the caller has from an earlier call
    send_checkpoints: bool = False  # between the audio; in a text also after each sentence
    checkpoints: tuple[bytes, ...] = ()  # sealed, of an earlier call; of a text in pieces: of its whole sentences
    speech_checkpoints: tuple[bytes, ...] = ()  # of a text in pieces: of the sentence after those
    sentences: tuple[str, ...] = ()  # of a text that came whole: two or more, each an utterance
    silence_without_words: bool = False  # a text without words gives silence, not an error
    is_followed: bool = False  # another utterance of the text comes as soon as this one is generated
    context_digest: bytes = b""  # SHA-256 of the context as it came; b"" without checkpoints
    arrived_at_s: float = field(default_factory=time.monotonic, compare=False)  # of the call, on the monotonic clock

    @property
    def is_text(self) -> bool:
        """Whether a text that came whole is run by TextSynthesis: it has several sentences, or none."""
        return bool(self.sentences) or not self.text

    @property
    def without_checkpoints(self) -> SynthesisPlan:
        """A plan to keep while it runs: opened checkpoints are not needed, and may be as large as a request."""
        return replace(self, checkpoints=(), speech_checkpoints=())
