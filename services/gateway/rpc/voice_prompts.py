"""Makes the prompt of a voice that a caller stores: decodes, encodes and measures it, and looks for our own mark."""

from __future__ import annotations

from typing import Protocol

from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, voices_pb2

from services.common.rpc.status import FieldViolation, invalid_argument, wrong_field
from services.gateway.audio.recording import Recording
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.budgets.recording_budget import RecordingBudget, decoded_in_thread
from services.gateway.requests.context import read_prompt
from services.gateway.requests.recordings import most_decoded_bytes
from services.gateway.settings import GatewaySettings
from services.gateway.stages.backends import Detects, Encodes
from services.gateway.stages.catalog import Catalog, CatalogSource
from services.gateway.stages.errors import StageError, check_encoder
from services.gateway.synthesis.context_fields import recording_in_public_terms
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn
from services.gateway.voices import checks

_RECORDING = "prompt.audio.recording"


class PromptCodec(Encodes, Detects, Protocol):
    """The codec methods that making a voice calls."""


class VoicePrompts:
    """Prompts from requests."""

    def __init__(
        self,
        settings: GatewaySettings,
        codec: PromptCodec,
        catalogs: CatalogSource,
        seal: CodeSeal | None,
        budget: RecordingBudget,
    ) -> None:
        """seal: with --code-sealing=sealed"""
        self._settings, self._codec, self._catalogs = settings, codec, catalogs
        self._seal, self._budget = seal, budget

    async def make(
        self, request: voices_pb2.CreateVoiceRequest, catalog: Catalog, deadline: Deadline
    ) -> tuple[rvq_pb2.CodeFrames, float | None]:
        """The codes of the prompt, and the level of its recording in dB of full scale.

        Raises StatusError, StageError.
        """
        settings = self._settings.model_copy(update={"max_recording_seconds": self._settings.max_voice_prompt_seconds})
        turn = tts_pb2.Turn(speaker=request.speaker, text=request.prompt.text, audio=request.prompt.audio)
        if not turn.audio.HasField("recording"):
            field = f"prompt.audio.{turn.audio.WhichOneof('source')}"
            return self._checked_codes(field, read_prompt(turn, catalog, settings, self._seal), catalog), None
        most = most_decoded_bytes([turn.audio.recording], settings.max_recording_seconds)
        async with self._budget.decoded.take(deadline, most) as taken:
            read = await decoded_in_thread(lambda: read_prompt(turn, catalog, settings, self._seal))
            assert read.recording is not None
            taken.shrink(len(read.recording.samples))
            return await self._encode(read.recording, catalog, deadline)

    def _checked_codes(self, field: str, turn: ContextTurn, catalog: Catalog) -> rvq_pb2.CodeFrames:
        """The codes of an earlier answer, which are this server's own output."""
        assert turn.codes is not None  # a turn of a voice has audio
        longest_s = self._settings.max_voice_prompt_seconds
        if not self._settings.voices_from_own_output:
            raise wrong_field(field, f"holds codes of an answer: {checks.OWN_OUTPUT}", "PROMPT_IS_OWN_OUTPUT")
        seconds = turn.codes.frame_count * catalog.frame_s
        violations = checks.too_short(field, seconds)
        if seconds > longest_s:
            why = f"lasts {seconds:.1f} s; at most {longest_s:g} s are allowed."
            violations.append(FieldViolation(field, why, "AUDIO_TOO_LONG"))
        if violations:
            raise invalid_argument(violations)
        return turn.codes

    async def _encode(
        self, recording: Recording, catalog: Catalog, deadline: Deadline
    ) -> tuple[rvq_pb2.CodeFrames, float]:
        field = f"{_RECORDING}.audio_content"
        if violations := checks.too_short(field, recording.duration_s):
            raise invalid_argument(violations)
        config = codec_pb2.StreamEncodeConfig(
            sample_format=recording.sample_format, sample_rate_hertz=recording.sample_rate_hz, measure=True
        )
        try:
            answer = await self._codec.encode(config, recording.pieces(), deadline.remaining_s)
            violations = checks.wrong_levels(field, answer.levels)
            if not violations and not self._settings.voices_from_own_output:
                violations = await checks.own_watermark(field, recording, self._codec, deadline.remaining_s)
        except StageError as error:
            raise recording_in_public_terms(error, _RECORDING) from None
        if violations:
            raise invalid_argument(violations)
        with self._catalogs.forgotten_if_wrong():
            check_encoder(answer, catalog.identity)
        return answer.codes, answer.levels.speech_level_db
