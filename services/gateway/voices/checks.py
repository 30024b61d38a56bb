"""Checks the recording of a voice: length, loudness, silence, clipping, and our own watermark.

The codec stage measures the samples; this module compares.
"""

from __future__ import annotations

from csm.codec.v1 import codec_pb2

from services.common.rpc.status import FieldViolation
from services.gateway.audio.recording import Recording
from services.gateway.stages.backends import Detects

MIN_SECONDS = 1.0
MIN_LEVEL_DB = -40.0  # RMS of the parts that are not silent, in dB of full scale
MAX_SILENT_RATIO = 0.6
MAX_CLIPPED_RATIO = 0.005


def too_short(field: str, seconds: float) -> list[FieldViolation]:
    if seconds >= MIN_SECONDS:
        return []
    return [FieldViolation(field, f"lasts {seconds:.2f} s; at least {MIN_SECONDS:g} s are needed.", "PROMPT_TOO_SHORT")]


def wrong_levels(field: str, levels: codec_pb2.RecordingLevels) -> list[FieldViolation]:
    """Every violation in the levels of a recording."""
    violations = []
    if levels.silent_ratio > MAX_SILENT_RATIO:
        why = f"is silent for {levels.silent_ratio:.0%} of its length; at most {MAX_SILENT_RATIO:.0%} are allowed."
        violations.append(FieldViolation(field, why, "PROMPT_SILENT"))
    if levels.silent_ratio < 1 and levels.speech_level_db < MIN_LEVEL_DB:
        why = f"is too quiet: {levels.speech_level_db:.1f} dB of full scale; at least {MIN_LEVEL_DB:g} dB are needed."
        violations.append(FieldViolation(field, why, "PROMPT_TOO_QUIET"))
    if levels.clipped_ratio > MAX_CLIPPED_RATIO:
        why = f"is clipped: {levels.clipped_ratio:.1%} of its samples; at most {MAX_CLIPPED_RATIO:.1%} are allowed."
        violations.append(FieldViolation(field, why, "PROMPT_CLIPPED"))
    return violations


async def own_watermark(field: str, recording: Recording, codec: Detects, timeout_s: float) -> list[FieldViolation]:
    """A violation if the recording carries a watermark of this server. Raises StageError."""
    config = codec_pb2.StreamDetectWatermarkConfig(
        sample_format=recording.sample_format, sample_rate_hertz=recording.sample_rate_hz
    )
    found = await codec.detect(config, recording.pieces(), timeout_s)
    if not found.detected and not found.stretches:
        return []
    return [FieldViolation(field, f"carries this server's watermark: {OWN_OUTPUT}", "PROMPT_IS_OWN_OUTPUT")]


OWN_OUTPUT = "no voice is made of its own output here; send a recording of the speaker."
