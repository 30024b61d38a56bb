"""Texts that are said while they are written, with both clients and the program, against a real gateway."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import csm_client
import pytest
from csm_client import AsyncClient
from csm_client.command import cli
from csm_client.command.pieces import pieces
from csm_client.text_writer import LONGEST_PIECE

from services.common.rpc.incoming import lingering
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES

PIECES = ("Good mor", "ning. How ", "are you?")
SENTENCES = ["Good morning.", "How are you?"]
SAMPLES = 2 * 10 * FRAME_SAMPLES


async def written(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


async def test_pieces_become_sentences(deployment: FakeDeployment, client: AsyncClient) -> None:
    async with client.stream_synthesize_text(written(*PIECES), seed=3, return_codes=True) as stream:
        speech = await stream.read_all()
    assert [sentence.text for sentence in stream.sentences] == SENTENCES
    assert [sentence.sample_offset for sentence in stream.sentences] == [0, SAMPLES // 2]
    assert len(speech.samples) == 2 * SAMPLES and speech.summary.codes.frame_count == 20
    assert [call.request.sampling_params.seed for call in deployment.engine.calls] == [3, 4]


async def test_pieces_of_a_closed_stream_are_not_waited_for(client: AsyncClient) -> None:
    ended = asyncio.Event()

    async def waiting() -> AsyncIterator[str]:
        try:
            yield "Good morning. How are you?"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with client.stream_synthesize_text(waiting()) as stream:
        async for _ in stream:
            break
    async with asyncio.timeout(20):
        await ended.wait()


@pytest.mark.parametrize("pieces", ["".join(PIECES), list(PIECES)])
async def test_a_whole_text_may_be_given_as_a_string(client: AsyncClient, pieces: Any) -> None:
    stream = client.stream_synthesize_text(pieces)
    await stream.read_all()
    assert [sentence.text for sentence in stream.sentences] == SENTENCES


async def test_a_long_text_goes_in_several_messages(deployment: FakeDeployment, client: AsyncClient) -> None:
    deployment.engine.frame_count = 1
    text = "This is a sentence like any other. " * 60
    assert len(text) > 2 * LONGEST_PIECE
    stream = client.stream_synthesize_text(text)
    await stream.read_all()
    assert [sentence.text for sentence in stream.sentences] == ["This is a sentence like any other."] * 60


async def test_an_exception_of_the_pieces_is_raised_and_ends_the_call(
    deployment: FakeDeployment, client: AsyncClient
) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "One. Two"
        raise LookupError("the model is gone")

    with pytest.raises(LookupError, match="the model is gone"):
        await client.stream_synthesize_text(broken()).read_all()
    await asyncio.wait_for(asyncio.gather(*(call.ended.wait() for call in deployment.engine.calls)), 60)


async def test_a_cancellation_raises_cancelled_error(deployment: FakeDeployment, client: AsyncClient) -> None:
    deployment.engine.script.pause_at = 3
    reading = asyncio.create_task(client.stream_synthesize_text(written("One. Two.")).read_all())
    await asyncio.wait_for(deployment.engine.script.paused.wait(), 60)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_text_without_words_names_the_field(client: AsyncClient) -> None:
    with pytest.raises(csm_client.InvalidRequestError) as failed:
        await client.stream_synthesize_text([]).read_all()
    assert [violation.field for violation in failed.value.field_violations] == ["text"]


def test_the_blocking_client_streams_a_text(server: Any) -> None:
    def broken() -> Iterator[str]:
        yield "One. Two"
        raise LookupError("the model is gone")

    with csm_client.Client(server.target, timeout_s=20) as client:
        stream = client.stream_synthesize_text(iter(PIECES))
        assert len(stream.read_all().samples) == 2 * SAMPLES
        assert [sentence.text for sentence in stream.sentences] == SENTENCES
        with pytest.raises(LookupError, match="the model is gone"):
            client.stream_synthesize_text(broken()).read_all()


@pytest.mark.parametrize("is_text", [False, True])
def test_a_stream_of_a_blocking_client_that_is_closed_is_incomplete(server: Any, is_text: bool) -> None:
    server.deployment.engine.script.pause_at = 3
    client = csm_client.Client(server.target, timeout_s=20)
    chunks = iter((client.stream_synthesize_text if is_text else client.stream_synthesize)("Hello."))
    next(chunks)
    client.close()
    with pytest.raises(csm_client.IncompleteAudioError):
        while True:
            next(chunks)


@pytest.mark.parametrize(
    ("arguments", "typed", "segments"),
    [
        (["-"], "".join(PIECES) + "\n", [1, 2]),
        (["".join(PIECES)], "", [1, 2]),
        (["--as-one-utterance", "".join(PIECES)], "", [1]),
    ],
)
def test_say_takes_a_text_from_standard_input_or_whole(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], typed: str, segments: list[int]
) -> None:
    """segments: of each utterance; a text is said by sentence unless it is asked for as one utterance."""
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    out = tmp_path / "said.wav"
    assert cli.main(["say", "--target", server.target, "--out", str(out), *arguments]) == 0
    with wave.open(str(out)) as file:
        assert file.getnframes() == SAMPLES // 2 * len(segments)
    assert [len(call.request.segments) for call in server.deployment.engine.calls] == segments


async def test_tokens_without_line_ends_are_read_as_they_come() -> None:
    reader, writer = os.pipe()
    with open(reader) as file, open(writer, "wb", buffering=0) as typing:
        read = pieces(file)
        for written, text in (
            (b"Good", "Good"),
            (b" mor", " mor"),
            (b"ning, \xc3", "ning, "),
            (b"\xa9t\xc3\xa9", "\u00e9t\u00e9"),
        ):
            typing.write(written)  # the next one is written when this one has been read
            assert await asyncio.wait_for(anext(read), 20) == text
        typing.close()
        assert [piece async for piece in read] == []


async def test_typed_lines_are_spoken_line_by_line() -> None:
    terminal, typed = pty.openpty()
    with open(typed) as file:
        read = pieces(file)
        for line in ("One", "Two"):
            os.write(terminal, f"{line}\n".encode())
            assert await asyncio.wait_for(anext(read), 20) == f"{line}\n\n"
        os.write(terminal, b"\x04")  # the end of what is typed
        assert [piece async for piece in read] == []
    os.close(terminal)


@pytest.mark.parametrize("content", [b"caf\xe9.", b"caf\xc3"])
async def test_input_that_is_not_utf8_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    with (
        open(tmp_path / "text") as file,
        pytest.raises(csm_client.InputTextError, match="standard input must be UTF-8"),
    ):
        assert [piece async for piece in pieces(file)] == []


def test_first_sentence_sounds_while_the_second_is_written_without_a_line_end(server: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "csm_client",
        "say",
        "-",
        "--out",
        "-",
        "--encoding",
        "pcm",
        "--target",
        server.target,
    ]
    paths = ":".join(path for path in sys.path if path)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        program.stdin.write(b"Good morning. How ")
        program.stdin.flush()
        assert len(program.stdout.read(2 * SAMPLES // 2)) == SAMPLES  # the first sentence, whole
        program.stdin.write(b"are you?")
        program.stdin.close()
        assert len(program.stdout.read()) == SAMPLES
    assert program.returncode == 0


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.02])
async def test_audio_completed_before_the_text_is_written_is_no_failure(
    client: csm_client.AsyncClient, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that meets the end of the call takes the place of its status."""
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "A word. "
            await asyncio.sleep(pause_s)

    for _ in range(16):
        speech = await client.stream_synthesize_text(endless(), max_seconds=0.8).read_all()
        assert speech.duration_s == 0.8
