"""docs/voices.md says what the code does, and its examples run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2

from services.gateway.rpc import voice_servicer
from services.gateway.settings import GatewaySettings
from services.gateway.voices import checks, store
from tests.services.gateway.voices.callers import wav
from tests.support.door import page_examples as pages
from tests.support.door.fake_door import fake_door

PAGE = pages.REPOSITORY / "docs" / "voices.md"


@pytest.fixture(scope="session")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_limits_are_those_of_the_code(page: str) -> None:
    defaults = {name: field.default for name, field in GatewaySettings.model_fields.items()}
    for words in (
        f"shorter than {checks.MIN_SECONDS:g} s",
        f"`--max-voice-prompt-seconds` ({defaults['max_voice_prompt_seconds']:g})",
        f"below {checks.MIN_LEVEL_DB:g} dB of full scale",
        f"more than {100 * checks.MAX_SILENT_RATIO:g} % of it is silent",
        f"more than {100 * checks.MAX_CLIPPED_RATIO:g} % of its samples",
        f"`--max-voices-per-caller` ({defaults['max_voices_per_caller']})",
        f"{voice_servicer.AT_ONCE} voices are made at once and {voice_servicer.MAX_WAITING} wait",
        f"after {store.TIMEOUT_S:g} s",
        f"`{defaults['voices_database']}`",
    ):
        assert words in page, words


def test_reasons_have_a_row_among_the_errors(page: str, repository: Path) -> None:
    errors = (repository / "docs" / "errors.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`((?:VOICE|PROMPT|AUDIO)_[A-Z_]+)`", page))
    assert len(told) >= 7 and all(f"| `{reason}` |" in errors for reason in told)


def test_the_page_names_every_reason_to_refuse_a_recording(page: str) -> None:
    source = Path(checks.__file__).read_text(encoding="utf-8")
    raised = set(re.findall(r'"(PROMPT_[A-Z_]+)"', source))
    assert len(raised) == 5 and all(f"| `{reason}` |" in page for reason in raised)


@pytest.mark.parametrize("language", ["sh", "python"])
async def test_examples_keep_a_voice(tmp_path: Path, language: str) -> None:
    (tmp_path / "eve.wav").write_bytes(wav())
    program = re.sub(r"\bada\b", "eve", pages.blocks(PAGE, language)[0])
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    async with fake_door({"voices_database": str(tmp_path / "voices.sqlite")}) as door:
        door.behind.codec.detection = codec_pb2.DetectWatermarkResponse()
        environment = {"PATH": pages.csm_on_path(tmp_path), "CSM_TARGET": door.behind.target}
        done = await pages.run([*command, pages.at(door, program)], tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        assert language == "python" or "contract 17" in done.stdout
        kept = await door.client.get("/v1/audio/voices/eve")
        assert kept.status_code == (404 if language == "sh" else 200)  # the commands end with `csm voices delete`
