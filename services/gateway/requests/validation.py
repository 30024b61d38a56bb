"""Turns a request into a plan, or refuses it with every violation at once. All synthesis RPCs share it.

Field paths are those of csm/v1/tts.proto, such as `context.turns[2].audio.codes`. It calls no stage.
"""

from __future__ import annotations

import hashlib
import math

from csm.v1 import tts_pb2

from services.common.rpc.calls import is_uuid
from services.gateway.audio.encodings import ENCODINGS, encoding_name, sample_rates_hz
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.requests.context import ContextReader
from services.gateway.requests.limits import unary_seconds, whole_frames
from services.gateway.requests.sampling import read_sampling
from services.gateway.requests.violations import Violations
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.conversations import conversation_key, wrong_id
from services.gateway.synthesis.plan import ContextTurn, SynthesisPlan
from services.gateway.synthesis.texts.sentences import sentences_of
from services.gateway.synthesis.texts.words import NO_WORDS, has_words
from services.gateway.voices.voice import ChosenVoice

MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_LABEL_COUNT = 8
MAX_LABEL_LENGTH = 64
MAX_LANGUAGE_LENGTH = 35  # the buffer size that RFC 5646 recommends
UUID_LENGTH = 36
UNARY_BATCH_FRAMES = 25  # a unary call sends nothing before its last frame

Request = tts_pb2.SynthesizeRequest | tts_pb2.StreamSynthesizeRequest


def plan_synthesis(
    request: Request,
    request_id: str,
    catalog: Catalog,
    settings: GatewaySettings,
    seal: CodeSeal | None,
    voice: ChosenVoice,
    *,
    caller: str,
    words_follow: bool,
) -> SynthesisPlan:
    """The plan of a request that is logged under `request_id`.

    seal: seals returned codes and opens those of contexts, with --code-sealing=sealed. voice: chosen for the request.
    caller: name of the caller. words_follow: the request is the `config` of StreamSynthesizeText.

    Raises StatusError INVALID_ARGUMENT with every violation.
    """
    violations = Violations(parent="config." if words_follow else "")
    checks = _Checks(catalog, settings, violations)
    context = ContextReader(catalog, settings, seal, violations)
    checks.request_id(request.request_id)
    language_code = request.voice.language_code or voice.language_code
    sentences = checks.sentences(request.input, context, language_code, words_follow=words_follow)
    sample_rate_hz = checks.audio_format(request.audio_config)
    sampling = read_sampling(request.sampling_params, catalog, settings, violations.wrong, voice.seed)
    turns = context.turns(request.context)
    speed = checks.speed(request.audio_config.speed)
    max_frames = checks.max_frames(request, sample_rate_hz, speed)
    max_utterance_frames = min(max_frames, checks.max_utterance_frames(speed))
    chunk_frames = checks.chunk_frames(request, sample_rate_hz)
    heard_frames = checks.heard_frames(request, sample_rate_hz, speed)
    config = tts_pb2.StreamConfig() if isinstance(request, tts_pb2.SynthesizeRequest) else request.stream_config
    if config.speech_checkpoints and not words_follow:
        why = "are for StreamSynthesizeText alone; StreamSynthesize takes its own in `checkpoints`."
        violations.wrong("stream_config.speech_checkpoints", why)
    checks.labels(request)
    checks.language(request.voice.language_code)
    if problem := wrong_id(request.conversation_id):
        violations.wrong("conversation_id", problem)
    checks.return_codes(request.return_codes)
    if request.input.HasField("speaker"):
        context.speaker("input.speaker", request.input.speaker)
    violations.raise_if_any()
    makes_several = words_follow or len(sentences) > 1
    streaming = isinstance(request, tts_pb2.StreamSynthesizeRequest)
    first_batch_frames = math.ceil((chunk_frames or 1) * speed) if streaming else UNARY_BATCH_FRAMES
    return SynthesisPlan(
        request_id=request_id,
        text=sentences[0] if sentences else "",
        sentences=sentences if len(sentences) > 1 else (),
        speaker=voice.speaker,
        voice=voice.name,
        turns=turns,
        sampling=sampling,
        max_frames=max_frames if makes_several else max_utterance_frames,
        max_utterance_frames=max_utterance_frames,
        encoding=request.audio_config.audio_encoding,
        sample_rate_hz=sample_rate_hz,
        return_codes=request.return_codes,
        seal=None if seal is None else lambda codes: seal.seal(codes, catalog.identity),
        chunk_frames=chunk_frames,
        first_batch_frames=min(first_batch_frames, max_utterance_frames),
        max_batch_frames=settings.max_batch_frame_count if streaming else UNARY_BATCH_FRAMES,
        speed=speed,
        live=streaming and (makes_several or not heard_frames),
        heard_frames=heard_frames,
        send_checkpoints=config.send_checkpoints,
        checkpoints=tuple(config.checkpoints),
        speech_checkpoints=tuple(config.speech_checkpoints),
        context_digest=_digest_of(request.context) if _has_checkpoints(config) else b"",
        conversation=conversation_key(
            caller, request.conversation_id, turns, call_id=request_id if makes_several else ""
        ),
        prompt=_prompt_turn(voice),
        prompt_id=voice.prompt_id,
        language_code=language_code,
        silence_without_words=request.input.silence_without_words,
    )


def _prompt_turn(voice: ChosenVoice) -> ContextTurn | None:
    if voice.prompt is None:
        return None
    return ContextTurn(voice.speaker, voice.prompt.text, codes=voice.prompt.codes)


def _has_checkpoints(config: tts_pb2.StreamConfig) -> bool:
    """Whether the request wants checkpoints, or has some of an earlier call."""
    return config.send_checkpoints or bool(config.checkpoints or config.speech_checkpoints)


def _digest_of(context: tts_pb2.SynthesisContext) -> bytes:
    digest = hashlib.sha256()
    for turn in context.turns:
        digest.update(hashlib.sha256(turn.SerializeToString(deterministic=True)).digest())
    return digest.digest()


def asked_speaker(request: Request) -> int | None:
    """The speaker that the request asks for; None if it does not."""
    return request.input.speaker if request.input.HasField("speaker") else None


class _Checks:
    """Reads and checks the fields of a request except its context and its voice."""

    def __init__(self, catalog: Catalog, settings: GatewaySettings, violations: Violations) -> None:
        self._catalog, self._settings = catalog, settings
        self.wrong = violations.wrong

    def sentences(
        self, given: tts_pb2.SynthesisInput, context: ContextReader, language_code: str, *, words_follow: bool
    ) -> tuple[str, ...]:
        """The utterances of the text; none if the words follow later, it is refused, or it is silence."""
        if words_follow:
            if given.text:
                self.wrong("input.text", "must be empty; the words come in later messages.")
            if given.as_one_utterance:
                self.wrong("input.as_one_utterance", "is true; it must not be set, because the text comes in pieces.")
            return ()
        is_short = 0 < len(given.text) <= self._settings.max_text_length
        if given.silence_without_words and is_short and not has_words(given.text):
            return ()
        if not context.text("input.text", given.text, is_spoken=True):
            return ()
        if given.as_one_utterance:
            return (given.text,)
        sentences = sentences_of(given.text, language_code)
        if not sentences and not given.silence_without_words:
            self.wrong("input.text", NO_WORDS, "TEXT_EMPTY")
        return sentences

    def request_id(self, given: str) -> None:
        if given and not is_uuid(given):
            shown = given if len(given) <= UUID_LENGTH else f"{given[:UUID_LENGTH]}..."
            self.wrong("request_id", f"is '{shown}'; it must be a UUID of {UUID_LENGTH} characters, or empty.")

    def audio_format(self, config: tts_pb2.AudioConfig) -> int:
        """The sample rate of the audio in Hz; 0 when the encoding or its rate is refused."""
        encoding, natural_hz = config.audio_encoding, self._catalog.sample_rate_hz
        if encoding not in ENCODINGS:
            known = ", ".join(map(encoding_name, ENCODINGS))
            self.wrong(
                "audio_config.audio_encoding",
                f"is {encoding_name(encoding)}; it must be one of {known}.",
                "UNSUPPORTED_ENCODING",
            )
            return 0
        asked_hz = config.sample_rate_hertz or natural_hz
        allowed = sample_rates_hz(encoding, natural_hz)
        if asked_hz not in allowed:
            unset = f", or 0 for {natural_hz}" if natural_hz in allowed else ""
            self.wrong(
                "audio_config.sample_rate_hertz",
                f"is {config.sample_rate_hertz}; with {encoding_name(encoding)} it must be"
                f" one of {', '.join(map(str, allowed))}{unset}.",
                "UNSUPPORTED_SAMPLE_RATE",
            )
            return 0
        return asked_hz

    def speed(self, asked: float) -> float:
        """The speed of the speech; 1 when it is refused."""
        if asked in (0, 1):
            return 1.0
        field = "audio_config.speed"
        if not MIN_SPEED <= asked <= MAX_SPEED:  # false for NaN too
            self.wrong(
                field, f"is {asked:g}; it must be {MIN_SPEED:g} to {MAX_SPEED:g}, or 0 for 1.", "SPEED_OUT_OF_RANGE"
            )
            return 1.0
        if not self._catalog.codec.stretch_sample_count:
            self.wrong(field, f"is {asked:g}, but this server's codec is too old to change the speed.", "SPEED_UNKNOWN")
            return 1.0
        return asked

    def max_frames(self, request: Request, sample_rate_hz: int, speed: float) -> int:
        """Most frames of the audio. sample_rate_hz, speed: from `audio_format` and `speed`

        Durations are those of the audio that is sent. Frames are limited as well, so that fast speech takes no more of
        them than other speech.
        """
        field, frame_s = "max_audio_duration", self._catalog.frame_s / speed
        longest_s = self._settings.max_stream_audio_seconds / max(1.0, speed)
        hint = ""
        if isinstance(request, tts_pb2.SynthesizeRequest) and sample_rate_hz:
            size = ENCODINGS[request.audio_config.audio_encoding].bytes_per_second(sample_rate_hz)
            longest_s = unary_seconds(size, longest_s)
            hint = " in one message of this format; StreamSynthesize has no such limit on message size"
        if not request.HasField(field):
            return whole_frames(longest_s, frame_s)
        seconds = request.max_audio_duration.seconds + request.max_audio_duration.nanos / 1e9
        if seconds > longest_s:
            self.wrong(field, f"is {seconds:g} s; at most {longest_s:g} s are made{hint}.", "AUDIO_TOO_LONG")
        elif whole_frames(seconds, frame_s) < 1:
            self.wrong(field, f"is {seconds:g} s; it must be at least one frame of {frame_s:g} s.")
        return whole_frames(min(seconds, longest_s), frame_s)

    def max_utterance_frames(self, speed: float) -> int:
        """Most frames of one utterance; at least one. speed: as for `max_frames`"""
        longest_s = self._settings.max_utterance_audio_seconds / max(1.0, speed)
        return max(1, whole_frames(longest_s, self._catalog.frame_s / speed))

    def chunk_frames(self, request: Request, sample_rate_hz: int) -> int:
        """Frames per message, limited to fit gRPC's default receive limit. sample_rate_hz: as for `max_frames`"""
        if isinstance(request, tts_pb2.SynthesizeRequest) or not request.stream_config.HasField("chunk_duration"):
            return 0
        duration = request.stream_config.chunk_duration
        seconds = duration.seconds + duration.nanos / 1e9
        longest_s = self._settings.max_stream_audio_seconds
        if not 0 < seconds <= longest_s:
            self.wrong(
                "stream_config.chunk_duration", f"is {seconds:g} s; it must be above 0 and at most {longest_s:g} s."
            )
        frame_s = self._catalog.frame_s
        if sample_rate_hz:
            size = ENCODINGS[request.audio_config.audio_encoding].bytes_per_second(sample_rate_hz)
            longest_s = unary_seconds(size, longest_s)
        return min(math.ceil(seconds / frame_s - 1e-6), max(1, whole_frames(longest_s, frame_s)))

    def heard_frames(self, request: Request, sample_rate_hz: int, speed: float) -> int:
        """Number of frames whose samples the caller has already. sample_rate_hz: as for `max_frames`"""
        if isinstance(request, tts_pb2.SynthesizeRequest):
            return 0
        heard_samples = request.stream_config.heard_sample_count
        if heard_samples < 0:
            self.wrong("stream_config.heard_sample_count", f"is {heard_samples}; it must not be negative.")
        if not sample_rate_hz:
            return 0
        return math.ceil(heard_samples / sample_rate_hz * speed / self._catalog.frame_s)

    def labels(self, request: Request) -> None:
        if len(request.labels) > MAX_LABEL_COUNT:
            self.wrong("labels", f"holds {len(request.labels)} labels; at most {MAX_LABEL_COUNT} are allowed.")
        longest = max((len(word) for label in request.labels.items() for word in label), default=0)
        if longest > MAX_LABEL_LENGTH:
            self.wrong(
                "labels", f"has a name or value of {longest} characters; at most {MAX_LABEL_LENGTH} are allowed."
            )

    def language(self, code: str) -> None:
        if len(code) > MAX_LANGUAGE_LENGTH:
            self.wrong("voice.language_code", f"has {len(code)} characters; at most {MAX_LANGUAGE_LENGTH} are allowed.")

    def return_codes(self, asked: bool) -> None:
        if asked and self._settings.code_sealing == "off":
            self.wrong("return_codes", "is set, but this server returns no codes.", "CODES_OFF")
