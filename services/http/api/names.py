"""THE table of names: OpenAI's voices and models, and what they are here. It knows no request."""

from __future__ import annotations

import re

from services.http.settings import HttpSettings, comma_separated

DEFAULT_VOICE = ""  # the gateway's own choice

# OpenAI's voices. None of them is here: each is the gateway's default voice, unless --voice-aliases says another.
OPENAI_VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
_DATED = re.compile(r"(.+)-(\d{4}|\d{4}-\d{2}-\d{2})")  # tts-1-1106, gpt-4o-mini-tts-2025-12-15


class Names:
    """The voices and models that a request may name beside those of the gateway."""

    def __init__(self, settings: HttpSettings) -> None:
        pairs = [pair.partition("=") for pair in comma_separated(settings.voice_aliases)]
        own = {alias.strip(): voice.strip() for alias, _, voice in pairs}
        self.voices = dict.fromkeys(OPENAI_VOICES, DEFAULT_VOICE) | own
        self.models = comma_separated(settings.model_aliases)

    def voice(self, name: str) -> str:
        """The gateway's name of a voice; "" is its default voice."""
        return self.voices.get(name, name)

    def is_model(self, name: str) -> bool:
        """Whether it names the one model beside its own name: one of the list, also with a date, as OpenAI's have."""
        dated = _DATED.fullmatch(name)
        return name in self.models or (dated is not None and dated[1] in self.models)
