"""The sample agents: they answer what is typed, into a WAV file. Run by `make test-plugins`."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"
SENTENCE_SAMPLES = 10 * 1920
MARKER_SAMPLES = 240  # of silence, which LiveKit may put at the end of a segment


@pytest.mark.parametrize(("name", "framework"), [("livekit", "livekit.agents"), ("pipecat", "pipecat")])
def test_the_agent_answers_typed_text(gateway: Any, tmp_path: Path, name: str, framework: str) -> None:
    pytest.importorskip(framework)
    command = [sys.executable, str(EXAMPLES / name / "agent.py"), gateway.target, str(tmp_path / "answer.wav")]
    done = subprocess.run(command, input="Good morning\n", capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert [text for text, _ in gateway.calls()] == ["You said: Good morning.", "Tell me more about it."]
    with wave.open(str(tmp_path / "answer.wav")) as file:
        assert file.getframerate() == 24_000
        assert file.getnframes() - 2 * SENTENCE_SAMPLES in (0, MARKER_SAMPLES)
