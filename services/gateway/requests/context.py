"""Reads the context of a request: turns with their recordings, or codes that are open or sealed."""

from __future__ import annotations

import math

from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from services.common import frames
from services.gateway.audio.recording import Recording
from services.gateway.auth.code_sealing import CodeSeal, SealError
from services.gateway.requests.recordings import read_recording
from services.gateway.requests.utterances import is_said_as
from services.gateway.requests.violations import Violations
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import ContextTurn
from services.gateway.synthesis.texts.words import NO_WORDS, has_words


def read_prompt(turn: tts_pb2.Turn, catalog: Catalog, settings: GatewaySettings, seal: CodeSeal | None) -> ContextTurn:
    """The prompt of a voice, its fields named as prompt.audio.codes. Raises StatusError INVALID_ARGUMENT."""
    violations = Violations()
    read = ContextReader(catalog, settings, seal, violations).turn("prompt", turn)
    violations.raise_if_any()
    if read.codes is not None:
        read.codes.ClearField("utterances")  # a prompt is one turn, and its text one text
    return read


class ContextReader:
    """Reads turns. What is wrong with them is added to the violations."""

    def __init__(
        self, catalog: Catalog, settings: GatewaySettings, seal: CodeSeal | None, violations: Violations
    ) -> None:
        """seal: opens sealed codes; None refuses them"""
        self._catalog, self._settings, self._seal, self._violations = catalog, settings, seal, violations
        self._wrong = violations.wrong

    def text(self, field: str, text: str, *, is_spoken: bool = False) -> str:
        """The text; "" if it is refused. is_spoken: it is the text to speak, which must have words; not one of the
        context.
        """
        max_length = self._settings.max_text_length
        if not text.strip():
            self._wrong(field, "is empty; there is nothing to say.", "TEXT_EMPTY")
        elif len(text) > max_length:  # checked before `has_words`, which takes a second for megabytes
            self._wrong(field, f"has {len(text)} characters; at most {max_length} are allowed.", "TEXT_TOO_LONG")
        elif is_spoken and not has_words(text):
            self._wrong(field, NO_WORDS, "TEXT_EMPTY")
        else:
            return text
        return ""

    def speaker(self, field: str, speaker: int) -> int:
        if not 0 <= speaker <= self._settings.max_speaker:
            self._wrong(field, f"is {speaker}; it must be 0 to {self._settings.max_speaker}.")
        return speaker

    def turns(self, context: tts_pb2.SynthesisContext) -> tuple[ContextTurn, ...]:
        most = self._settings.max_turn_count
        if len(context.turns) > most:
            self._wrong("context.turns", f"holds {len(context.turns)} turns; at most {most} are allowed.")
            return ()
        longest_s = self._settings.max_context_audio_seconds
        turns: list[ContextTurn] = []
        seconds = 0.0
        for index, turn in enumerate(context.turns):
            turns.append(self.turn(f"context.turns[{index}]", turn, longest_s - seconds))
            seconds += self._audio_seconds(turns[-1])
            if seconds > longest_s:  # later turns are not decoded: a megabyte of Opus can last for hours
                self._wrong(
                    "context.turns",
                    f"have more than {longest_s:g} s of audio in the first {index + 1} turns; all turns together may"
                    f" have {longest_s:g} s.",
                    "CONTEXT_TOO_LONG",
                )
                break
        return tuple(turns)

    def turn(self, field: str, turn: tts_pb2.Turn, until_seconds: float = math.inf) -> ContextTurn:
        """until_seconds: where decoding of a recording stops"""
        speaker = self.speaker(f"{field}.speaker", turn.speaker)
        text = self.text(f"{field}.text", turn.text)
        recording: Recording | None = None
        codes: rvq_pb2.CodeFrames | None = None
        if turn.HasField("audio"):
            match turn.audio.WhichOneof("source"):
                case "recording":
                    recording = read_recording(
                        f"{field}.audio.recording",
                        turn.audio.recording,
                        self._violations,
                        self._settings.max_recording_seconds,
                        until_seconds,
                    )
                case "codes":
                    codes = self._open_codes(f"{field}.audio.codes", turn.audio.codes)
                case "sealed_codes":
                    codes = self._sealed_codes(f"{field}.audio.sealed_codes", turn.audio.sealed_codes)
                case _:
                    self._wrong(f"{field}.audio", "is empty; it must hold a recording or codes.")
        if codes is not None and not is_said_as([each.text for each in codes.utterances], text):
            codes.ClearField("utterances")
        return ContextTurn(speaker, text, recording, codes)

    def _open_codes(self, field: str, codes: rvq_pb2.CodeFrames) -> rvq_pb2.CodeFrames | None:
        match self._settings.code_sealing:
            case "open":
                return self._codes(field, codes)
            case "sealed":
                why = (
                    "holds open codes, and this server takes sealed ones alone: send `sealed_codes` as they were"
                    " returned, or the turn's audio as a recording."
                )
                self._wrong(field, why, "CODES_NOT_SEALED")
            case _:
                self._wrong(field, "holds codes, but this server takes none: send a recording.", "CODES_OFF")
        return None

    def _sealed_codes(self, field: str, sealed: bytes) -> rvq_pb2.CodeFrames | None:
        if self._seal is None:
            why = "holds sealed codes, but this server has no keys to open them: send a recording."
            self._wrong(field, why, "CODES_OFF" if self._settings.code_sealing == "off" else "CODES_SEALED")
            return None
        try:
            codes = self._seal.open(sealed, self._catalog.identity)
        except SealError as error:
            self._wrong(field, str(error), error.reason)
            return None
        return self._codes(field, codes)

    def _codes(self, field: str, codes: rvq_pb2.CodeFrames) -> rvq_pb2.CodeFrames | None:
        identity = self._catalog.identity
        try:
            frames.check_shape(codes, identity.codebook_count)
            frames.check_range(codes, identity.codebook_size)
            frames.check_utterances(codes)
        except frames.MalformedFramesError as error:
            self._wrong(field, str(error), "CODES_MALFORMED")
            return None
        # Copied field by field: a reference would keep the whole request in memory, a copy its unknown fields.
        known = {field.name: value for field, value in codes.ListFields() if field.name != "utterances"}
        utterances = [rvq_pb2.Utterance(text=each.text, frame_count=each.frame_count) for each in codes.utterances]
        return rvq_pb2.CodeFrames(**known, utterances=utterances)

    def _audio_seconds(self, turn: ContextTurn) -> float:
        if turn.recording is not None:
            return turn.recording.duration_s
        return turn.codes.frame_count * self._catalog.frame_s if turn.codes is not None else 0.0
