"""The example programs in Go, Java, C++ and Ruby: stubs made from the protos, compiled, run against servers.

They need Debian's packages (docs/callers/languages.md) and are skipped where those are missing.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
import pytest

from tests.polyglot.examples import LANGUAGES, Commands, build_examples, run
from tests.support.fake_deployment import fake_deployment
from tests.support.fake_stages import numbered_audio
from tests.support.network.ports import free_ports

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(1000)]


Build = Callable[[str], Commands]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Makes the programs of a language, once."""
    return cache(lambda language: build_examples(language, tmp_path_factory.mktemp(language)))


@pytest.fixture(scope="module", params=list(LANGUAGES))
def commands(request: pytest.FixtureRequest, build: Build) -> Commands:
    """The programs of one language."""
    return build(request.param)


def test_say_streams_audio_and_reports_a_failure(commands: Commands, fake_server: Any) -> None:
    result = run([*commands["say"], fake_server.target, "Hello."])
    assert result.returncode == 0, result.stderr.decode()
    assert len(result.stdout) == 13 * 1920 * 2
    assert b"END_OF_SPEECH, watermark key k1" in result.stderr
    lost = run([*commands["say"], fake_server.target, "lost"])
    assert lost.returncode != 0
    assert b"The engine was lost." in lost.stderr
    cut = run([*commands["say"], fake_server.target, "cut"])
    assert cut.returncode != 0
    assert b"without a summary" in cut.stderr


def test_wrong_arguments_are_refused(commands: Commands) -> None:
    for program, command in commands.items():
        for arguments in ([], ["localhost:1"], ["localhost:1", "Hello.", "there."]):
            result = run([*command, *arguments])
            assert result.returncode == 2, (program, arguments, result.stderr.decode())
            (usage,) = result.stderr.decode().splitlines()
            assert usage.lower().startswith(f"usage: {program}"), usage


async def test_talk_speaks_a_text_by_sentence_after_the_other_speaker_s_turn(commands: Commands) -> None:
    async with fake_deployment() as running:
        running.engine.frame_count = 2
        command, text = [*commands["talk"], running.target, "How are you?"], "I am well, and you? It is a fine day.\n"
        result = await asyncio.to_thread(run, command, text.encode())
        assert result.returncode == 0, result.stderr.decode()
        assert result.stdout == numbered_audio(range(2)) * 2
        sentences = ["I am well, and you?", "It is a fine day."]
        assert all(sentence in result.stderr.decode() for sentence in [*sentences, "END_OF_SPEECH"])
        first, second = (call.request.segments for call in running.engine.calls)
        assert [(turn.speaker_id, turn.text) for turn in first] == [(1, "How are you?"), (0, sentences[0])]
        assert [turn.text for turn in second] == ["How are you?", *sentences]


async def test_talk_reports_the_reason_of_a_refusal(commands: Commands) -> None:
    async with fake_deployment() as running:
        result = await asyncio.to_thread(run, [*commands["talk"], running.target, " "], b"Hello. " * 3000)
        assert result.returncode != 0
        assert b"context.turns[0].text: is empty" in result.stderr


async def test_speech_of_a_text_begins_before_its_end(commands: Commands) -> None:
    async with fake_deployment() as running:
        program = await asyncio.create_subprocess_exec(
            *commands["talk"], running.target, "Hm.", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert program.stdin is not None and program.stdout is not None
        async with asyncio.timeout(60):
            # The words of the next sentence say that the first one has ended.
            program.stdin.write(b"This is the first of some sentences.\nThis is the second" + b"\n" * 100)
            await program.stdin.drain()
            assert await program.stdout.readexactly(3840) == numbered_audio(range(1))
            program.stdin.close()
            await program.stdout.read()
            assert await program.wait() == 0


@contextmanager
def backend(command: list[str], target: str) -> Iterator[str]:
    """A Go backend that starts; its address."""
    with free_ports(1) as (port,):
        address = f"127.0.0.1:{port}"
        with subprocess.Popen([*command, target, address]) as process:
            try:
                yield f"http://{address}/speak"
            finally:
                process.kill()


async def get(client: httpx.AsyncClient, address: str, text: str) -> httpx.Response:
    """The whole answer; waits up to 30 s for the backend."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await client.get(address, params={"text": text})
            except httpx.ConnectError:
                await asyncio.sleep(0.1)


async def test_the_go_backend_streams_audio_and_aborts_incomplete_responses(build: Build) -> None:
    async with fake_deployment() as running, httpx.AsyncClient(trust_env=False, timeout=30) as client:
        with backend(build("go")["backend"], running.target) as address:
            whole = await get(client, address, "Hello.")
            assert whole.content[:4] == b"RIFF" and whole.content.endswith(numbered_audio(range(10)))
            refused = await get(client, address, "")
            assert refused.status_code == 502 and "input.text: is empty" in refused.text
            script = running.engine.script
            script.pause_at = script.fail_at = 5
            async with client.stream("GET", address, params={"text": "Hello."}) as answer:
                pieces = answer.aiter_bytes()
                assert await anext(pieces)
                script.resume.set()
                with pytest.raises(httpx.RemoteProtocolError):
                    _ = [piece async for piece in pieces]
