"""clients/node with a text from standard input, at a real gateway."""

from __future__ import annotations

import asyncio
import subprocess
import wave
from typing import Any

import pytest

from tests.support.fake_deployment import fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]


def typed(node: Any, target: str, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = node.command(target, "-", *arguments)
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=100, check=False)


async def test_a_text_from_standard_input_is_said_by_sentence(node: Any) -> None:
    async with fake_deployment() as running:
        running.engine.frame_count = 2
        text = "This is a sentence, and \N{SLIGHTLY SMILING FACE} like any other. " * 60
        result = await asyncio.to_thread(typed, node, running.target, text, "--seed", "4")
        assert result.returncode == 0, result.stderr
        with wave.open(str(node.out)) as file:
            assert file.getnframes() == 60 * 2 * FRAME_SAMPLES
        requests = [call.request for call in running.engine.calls]
        assert {request.segments[-1].text for request in requests} == {text.split(". ")[0] + "."}
        assert [request.sampling_params.seed for request in requests] == list(range(4, 64))


async def test_a_text_without_words_is_refused(node: Any) -> None:
    async with fake_deployment() as running:
        result = await asyncio.to_thread(typed, node, running.target, " \n")
        assert result.returncode == 1
        assert "TEXT_EMPTY" in result.stderr
        assert not node.out.exists()
