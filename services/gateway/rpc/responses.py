"""Converts the result of a synthesis to public messages. Enumerations are mapped by name, not by number."""

from __future__ import annotations

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from services.common.values import seconds
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.segments import answer_codes, dropped_turns
from services.gateway.voices.listing import ListedVoice

_FINISH_REASONS = {
    engine_pb2.FINISH_REASON_END_OF_SPEECH: tts_pb2.FINISH_REASON_END_OF_SPEECH,
    engine_pb2.FINISH_REASON_MAX_FRAMES: tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION,
    engine_pb2.FINISH_REASON_CONTEXT_WINDOW: tts_pb2.FINISH_REASON_CONTEXT_WINDOW,
}
_COVERAGES = {
    codec_pb2.WATERMARK_COVERAGE_FULL: tts_pb2.WATERMARK_COVERAGE_FULL,
    codec_pb2.WATERMARK_COVERAGE_PARTIAL: tts_pb2.WATERMARK_COVERAGE_PARTIAL,
}


def audio_format(plan: SynthesisPlan) -> tts_pb2.AudioFormat:
    return tts_pb2.AudioFormat(audio_encoding=plan.encoding, sample_rate_hertz=plan.sample_rate_hz, channel_count=1)


def header(plan: SynthesisPlan, catalog: Catalog) -> tts_pb2.SynthesisHeader:
    return tts_pb2.SynthesisHeader(
        request_id=plan.request_id,
        audio_format=audio_format(plan),
        voice=plan.voice,
        model_version=catalog.model.model_version,
        seed=plan.sampling.seed,
    )


def listed_voice(voice: ListedVoice, catalog: Catalog) -> tts_pb2.Voice:
    return tts_pb2.Voice(
        name=voice.name,
        language_codes=voice.language_codes,
        natural_sample_rate_hertz=catalog.sample_rate_hz,
        description=voice.description,
        speaker=voice.speaker,
        seed=voice.seed,
        has_prompt=voice.has_prompt,
        owner=voice.owner,
    )


def finish_reason(result: SynthesisResult) -> tts_pb2.FinishReason:
    return _FINISH_REASONS.get(result.complete.finish_reason, tts_pb2.FINISH_REASON_UNSPECIFIED)


def summary(plan: SynthesisPlan, result: SynthesisResult, sample_count: int) -> tts_pb2.SynthesisSummary:
    """sample_count: samples sent to the caller, at the plan's rate"""
    codes = _returned_codes(plan, result)
    return tts_pb2.SynthesisSummary(
        finish_reason=finish_reason(result),
        stats=tts_pb2.SynthesisStats(
            frame_count=result.complete.frame_count,
            sample_count=sample_count,
            audio_duration=seconds(sample_count / plan.sample_rate_hz),
            queue_duration=seconds(result.queue_s),
            first_audio_latency=seconds(result.first_audio_s),
            total_duration=seconds(result.total_s),
            input_token_count=result.started.text_token_count,
            context_token_count=result.started.prompt_token_count,
            dropped_turn_count=dropped_turns(plan.turns, result.started.dropped_segment_count),
        ),
        watermark=tts_pb2.WatermarkInfo(
            coverage=_COVERAGES.get(result.watermark.coverage, tts_pb2.WATERMARK_COVERAGE_UNSPECIFIED),
            scheme=result.watermark.scheme,
            key_id=result.watermark.key_id,
        ),
        codes=codes if plan.seal is None else None,
        sealed_codes=plan.seal(codes) if codes is not None and plan.seal is not None else b"",
    )


def _returned_codes(plan: SynthesisPlan, result: SynthesisResult) -> rvq_pb2.CodeFrames | None:
    """With their utterances; None where none are wanted, or there are none."""
    if not plan.return_codes or not result.codes.frame_count:
        return None
    if result.codes.utterances:  # of a text
        return result.codes
    return answer_codes([(plan.text, result.codes)], result.codes.codebook_count)
