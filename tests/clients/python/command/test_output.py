"""Where `csm say --out` writes: links, FIFOs and standard output stay what they are; what cannot be is told first."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import threading
import wave
from pathlib import Path
from typing import Any

import pytest
from csm_client.command.cli import main

from tests.services.all_in_one.test_programs import environment
from tests.support.fake_stages import FRAME_SAMPLES, numbered_audio

AUDIO = numbered_audio(range(10))


def say(server: Any, out: Path | str, *more: str) -> int:
    return main(["say", "Hello.", "--out", str(out), "--target", server.target, *more])


def test_a_link_stays_and_its_target_is_written(server: Any, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target.wav", tmp_path / "link.wav"
    link.symlink_to(target)
    for _ in range(2):  # the target is missing, then there
        assert say(server, link) == 0
        assert link.is_symlink()
        with wave.open(str(target)) as file:
            assert file.getnframes() == 10 * FRAME_SAMPLES
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link.wav", "target.wav", "there"]


def test_a_fifo_stays_and_its_reader_gets_the_audio(server: Any, tmp_path: Path) -> None:
    fifo, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    assert say(server, fifo, "--encoding", "pcm") == 0
    reader.join(20)
    assert got == [AUDIO]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_fifo_without_a_reader_is_an_error_before_any_synthesis(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert say(server, tmp_path / "pipe", "--deadline", "5") == 1
    assert "No program has opened" in capsys.readouterr().err
    assert server.deployment.engine.calls == []


def test_a_device_is_written_to(server: Any, tmp_path: Path) -> None:
    link = tmp_path / "null"  # a failure must not replace that of the machine
    link.symlink_to("/dev/null")
    assert say(server, link) == 0
    assert link.is_symlink() and stat.S_ISCHR(link.stat().st_mode)


@pytest.mark.parametrize("out", ["-", "stdout"])
@pytest.mark.parametrize("into", ["pipe", "file"])
def test_standard_output_gets_the_audio_and_nothing_else(server: Any, tmp_path: Path, out: str, into: str) -> None:
    if out == "stdout":  # what /dev/stdout is; a failure must not replace that of the machine
        (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
        out = str(tmp_path / "stdout")
    command = [sys.executable, "-m", "csm_client.command.cli", "say", "Hello.", "--out", out, "--target", server.target]
    written = tmp_path / "written"
    written.touch()
    node = written.stat().st_ino
    with written.open("wb") as file:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE if into == "pipe" else file,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
            check=True,
        )
    audio = done.stdout if into == "pipe" else written.read_bytes()
    assert audio[:4] == b"RIFF" and audio[44:] == AUDIO
    assert struct.unpack("<I", audio[40:44]) == (0xFFFFFFFF,)
    assert b"real-time factor" in done.stderr
    assert written.stat().st_ino == node
    assert all(path == written or path.is_symlink() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "encoding", "sentence"),
    [
        ("a.m4a", None, ".m4a is another format"),
        ("a.wma", "wav", ".wma is another format"),
        ("a.mp3", "flac", "its name must end in .flac"),
        ("a.flac", "wav", "files of that name hold FLAC"),
        ("a.pcm", "wav", "files of that name hold pcm"),
        ("a.ulaw", "alaw", "files of that name hold mulaw"),
        ("a.wav", "opus", "its name must end in .ogg or .opus"),
        ("a.ogg", "wav", "files of that name hold Ogg Opus"),
        ("none/a.wav", None, "there is no folder"),
        ("dangling.wav", None, "there is no folder"),
        ("circle.wav", None, "a link that leads nowhere"),
    ],
)
def test_an_unwritable_output_is_an_error_before_any_synthesis(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, encoding: str | None, sentence: str
) -> None:
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "none" / "a.wav")
    (tmp_path / "circle.wav").symlink_to(tmp_path / "circle.wav")
    assert say(server, tmp_path / out, *([] if encoding is None else ["--encoding", encoding])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert server.deployment.engine.calls == []


def test_a_speaker_of_the_context_may_speak_again(server: Any, tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text('[{"speaker": 7, "text": "Before."}]')
    assert say(server, tmp_path / "a.wav", "--speaker", "7", "--context", str(tmp_path / "context.json")) == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--speaker", "7"], "The model has no speaker 7; it has 0 (ada), 1 (bo)."),
        (["--speaker", "1", "--voice", "ada"], "The voice ada has no speaker 1; it has 0 (ada)."),
    ],
)
def test_an_unknown_speaker_is_an_error_before_any_synthesis(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert say(server, tmp_path / "a.wav", *more) == 1
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert server.deployment.engine.calls == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--return-codes", "here/x.wav"], "--return-codes and --out are both x.wav"),
        (
            ["--return-codes", "turns.json", "--context", "turns.json"],
            "--context and --return-codes are both turns.json",
        ),
        (["--context", "turns.json", "--encoding", "pcm", "--out", "turns.json"], "--context and --out are both"),
    ],
)
def test_no_file_is_written_over_another_one_of_the_same_call(
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").symlink_to(tmp_path)
    Path("turns.json").write_text("[]")
    assert say(server, "x.wav", *given) == 1
    assert f"error: {told}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "turns.json"]
    assert Path("turns.json").read_text() == "[]"
