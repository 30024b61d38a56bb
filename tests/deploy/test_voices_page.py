"""docs/voices.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.gateway.rpc import voice_servicer
from services.gateway.settings import GatewaySettings
from services.gateway.stages.errors import CODEC_CHANGED
from services.gateway.voices import checks, store


@pytest.fixture(scope="session")
def page(repository: Path) -> str:
    return (repository / "docs" / "voices.md").read_text(encoding="utf-8")


def test_limits_are_those_of_the_code(page: str) -> None:
    defaults = {name: field.default for name, field in GatewaySettings.model_fields.items()}
    for words in (
        f"shorter than {checks.MIN_SECONDS:g} s",
        f"`--max-voice-prompt-seconds` ({defaults['max_voice_prompt_seconds']:g})",
        f"below {checks.MIN_LEVEL_DB:g} dB of full scale",
        f"more than {100 * checks.MAX_SILENT_RATIO:g} % of it is silent",
        f"more than {100 * checks.MAX_CLIPPED_RATIO:g} % of its samples",
        f"`--max-voices-per-caller`, {defaults['max_voices_per_caller']}",
        f"{voice_servicer.AT_ONCE} voices are made at once, {voice_servicer.MAX_WAITING} wait",
        f"within {store.TIMEOUT_S:g} s",
        f"`{defaults['voices_database']}`",
    ):
        assert words in page, words


def test_reasons_are_those_of_the_code(page: str, repository: Path) -> None:
    told = set(re.findall(r"`((?:VOICES?|PROMPT|NO|CODEC)_[A-Z_]+)`", page))
    gateway = repository / "services" / "gateway"
    sources = [*(gateway / "voices").glob("*.py"), *(gateway / "rpc").glob("voice_*.py")]
    raised = set(re.findall(r'"((?:VOICES?|PROMPT|NO|CODEC)_[A-Z_]+)"', "".join(map(Path.read_text, sources))))
    assert told == raised | {CODEC_CHANGED}
