"""Wrong fields of a request, by the options that set them. It knows no channel."""

from __future__ import annotations

from collections.abc import Mapping

from csm_client.tables.sampling import SAMPLING

# Paths in csm.v1, without the `config.` of StreamSynthesizeText, and what sets them.
_OPTIONS: Mapping[str, str] = {
    **{f"sampling_params.{name}": f"--{name.replace('_', '-')}" for name in SAMPLING},
    "text": "the text",
    "input.text": "the text",
    "input.speaker": "--speaker",
    "input.as_one_utterance": "--as-one-utterance",
    "voice.name": "--voice",
    "audio_config.audio_encoding": "--encoding",
    "audio_config.sample_rate_hertz": "--rate",
    "audio_config.speed": "--speed",
    "max_audio_duration": "--max-seconds",
    "context": "--context",
    "conversation_id": "--conversation",
    "return_codes": "--return-codes",
    "key_ids": "--key-id",
    "prompt.text": "--text",
    "prompt.audio": "--audio",
    "prompt.audio.recording.audio_content": "--audio",
    "prompt": "--audio",
    "consent.id": "--consent-id",
    "consent.text": "--consent-text",
    "consent": "--consent-id",
    "language_codes": "--language",
    "description": "--description",
    "callers": "--caller",
    "seed": "--seed",
    "speaker": "--speaker",
}


def option_of(field: str) -> str:
    """What sets the field: "--top-k", "--context (turns[0].text)" for a part, the field itself where no option does."""
    path = field.removeprefix("config.")
    for known in sorted(_OPTIONS, key=len, reverse=True):
        rest = path.removeprefix(known)
        if path == known:
            return _OPTIONS[known]
        if rest != path and rest[0] in ".[":
            return f"{_OPTIONS[known]} ({rest.removeprefix('.')})"
    return path
