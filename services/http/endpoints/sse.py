"""Server-sent events of speech as in OpenAI's API: speech.audio.delta, then one speech.audio.done.

In addition, `done` describes the synthesis, and a stream that breaks ends with an `error` event instead.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from csm.v1 import tts_pb2
from csm_client.speech import codes_of

from services.http.api.errors import ApiError

_REASONS: Mapping[int, str] = {
    tts_pb2.FINISH_REASON_END_OF_SPEECH: "end_of_speech",
    tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION: "max_audio_seconds",
    tts_pb2.FINISH_REASON_CONTEXT_WINDOW: "context_window",
}


def delta(audio: bytes) -> bytes:
    return _event({"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()})


def done(summary: tts_pb2.SynthesisSummary, header: tts_pb2.SynthesisHeader | None) -> bytes:
    return _event({"type": "speech.audio.done", **outcome(summary, header)})


def error(error: ApiError) -> bytes:
    return _event({"type": "error", **error.body})


def outcome(summary: tts_pb2.SynthesisSummary, header: tts_pb2.SynthesisHeader | None) -> dict[str, Any]:
    """The last event. `usage` counts text tokens and codec frames; `codes` can be sent as a later turn's `codes`."""
    stats = summary.stats
    found: dict[str, Any] = {
        "usage": {
            "input_tokens": stats.input_token_count,
            "output_tokens": stats.frame_count,
            "total_tokens": stats.input_token_count + stats.frame_count,
        },
        "finish_reason": finish_reason(summary),
        "audio_seconds": stats.audio_duration.ToNanoseconds() / 1e9,
        "dropped_turns": stats.dropped_turn_count,
        "watermark": {"scheme": summary.watermark.scheme, "key_id": summary.watermark.key_id},
    }
    if header is not None:
        found |= {"voice": header.voice, "seed": header.seed, "model_version": header.model_version}
    if (codes := codes_of(summary)) is not None:
        content = codes if isinstance(codes, bytes) else codes.SerializeToString()
        found["codes"] = base64.b64encode(content).decode()
    return found


def finish_reason(summary: tts_pb2.SynthesisSummary) -> str:
    """Why the speech ended; with other reasons than `end_of_speech` it was cut."""
    return _REASONS.get(summary.finish_reason, "unknown")


def _event(value: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
