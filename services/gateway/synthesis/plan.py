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
    """One utterance to make, or a text of several."""

    request_id: str
    text: str  # of a text, its first sentence; "" while that is not known
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
    live: bool  # the caller plays the audio while it is made; of a text, from `heard_frames` on
    prompt: ContextTurn | None = None  # of the voice; it is before the turns and never dropped
    prompt_id: str = ""  # as in ChosenVoice
    language_code: str = ""  # of the request or of the voice; "" when neither says
    seal: Callable[[rvq_pb2.CodeFrames], bytes] | None = None  # seals returned codes; None returns them open
    conversation: str = ""  # key of the conversation, which finds its engine again; "" is none
    speed: float = 1.0  # of the speech; 1 is as the model speaks
    heard_frames: int = 0  # that the caller has from an earlier call
    send_checkpoints: bool = False  # between the audio, of a text after each sentence
    checkpoints: tuple[bytes, ...] = ()  # of an earlier call, sealed; of a text those of whole sentences
    speech_checkpoints: tuple[bytes, ...] = ()  # of a text, of the sentence behind these
    sentences: tuple[str, ...] = ()  # of a text that came whole, two or more; each is an utterance
    silence_without_words: bool = False  # instead of an error, where no sentence has words
    is_followed: bool = False  # by another utterance of its text, which comes as soon as this one is made
    context_digest: bytes = b""  # SHA-256 of the context as it came; b"" where there are no checkpoints
    arrived_at_s: float = field(default_factory=time.monotonic, compare=False)  # of the call, on the monotonic clock

    @property
    def is_text(self) -> bool:
        """Whether what came whole is said as a text: of several sentences, or of none, which is a silence."""
        return bool(self.sentences) or not self.text

    @property
    def without_checkpoints(self) -> SynthesisPlan:
        """For the run: opened, they are not needed. They may be as large as a request, and so they must not stay."""
        return replace(self, checkpoints=(), speech_checkpoints=())
