"""`csm say --play`: through a system's player or sounddevice, each a stand-in that records what it is given."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from csm_client.command import playback
from csm_client.command.cli import command_line, main
from csm_client.errors import PlayerError

from tests.support.fake_stages import FRAME_SAMPLES

SAMPLES = 10 * FRAME_SAMPLES


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where programs are looked for; no sounddevice."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.chdir(tmp_path)
    return folder


def add_player(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    (programs / name).chmod(0o755)


@pytest.mark.parametrize("name", ["paplay", "aplay", "ffplay"])
def test_system_player_is_given_every_sample_and_its_rate(
    server: Any, programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    add_player(programs, name, f"echo $@ > {tmp_path}/arguments; cat > {tmp_path}/played")
    assert main(["say", "Hello.", "--play", "--rate", "16000", "--target", server.target]) == 0
    assert (tmp_path / "played").stat().st_size == 2 * SAMPLES * 16_000 // 24_000
    assert "16000" in (tmp_path / "arguments").read_text()
    assert "audio length         0.80 s" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "arguments", "played"}  # and no speech.wav


def test_first_sound_is_played_before_the_last_is_made(server: Any, programs: Path, tmp_path: Path) -> None:
    """The player lets the text end only when it has heard the first samples."""
    os.mkfifo(tmp_path / "heard")
    add_player(programs, "paplay", f"head -c 2000 > /dev/null; echo > {tmp_path}/heard; cat > /dev/null")
    typing = f"printf 'Good morning. How '; read line < {tmp_path}/heard; printf 'are you?'"
    command = f'({typing}) | "{sys.executable}" -m csm_client say - --play --target {server.target}'
    paths = ":".join(path for path in sys.path if path)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "PYTHONPATH": paths}
    assert subprocess.run(["/bin/sh", "-c", command], env=environment).returncode == 0
    assert len(server.deployment.engine.calls) == 2


def test_player_that_fails_is_named(server: Any, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_player(programs, "aplay", "exit 3")
    assert main(["say", "Hello.", "--play", "--target", server.target]) == 1
    assert "error: aplay ended before all was played (exit status 3)." in capsys.readouterr().err


def test_a_player_that_plays_nothing_is_not_waited_for(
    server: Any, programs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As paplay, which waits 30 s for a server that does not answer. The pipe to it takes all samples."""
    monkeypatch.setattr(playback, "SILENT_S", 0.2)
    add_player(programs, "paplay", "exec sleep 100")
    began_s = time.monotonic()
    assert main(["say", "Hello.", "--play", "--target", server.target]) == 1
    assert time.monotonic() - began_s < 50
    assert "error: Nothing has been played for 1" in capsys.readouterr().err


def test_a_player_that_takes_nothing_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "SILENT_S", 0.2)
    sink = SlowSink()
    player = playback.Player(sink, bytes_per_second=1000)
    player.write(b"12")
    player.write(b"34")
    player.finish()
    assert sink.is_full.wait(60)
    with pytest.raises(PlayerError, match="Nothing has been played for 0"):
        player.join()
    assert sink.taken == [b"12", b"34"] and sink.is_stopped.is_set()


def test_a_missing_player_is_an_error_before_any_synthesis(
    server: Any, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["say", "Hello.", "--play", "--target", server.target]) == 1
    error = capsys.readouterr().err
    assert "csm-client[play]" in error and "alsa-utils" in error
    assert server.deployment.engine.calls == []


def test_play_excludes_a_file_and_an_encoding(capsys: pytest.CaptureFixture[str], server: Any) -> None:
    with pytest.raises(SystemExit):
        main(["say", "Hello.", "--play", "--out", "a.wav"])
    assert main(["say", "Hello.", "--play", "--encoding", "opus", "--target", server.target]) == 1
    assert "--encoding opus cannot be used with --play" in capsys.readouterr().err


class SlowSink:
    """Takes one piece, and the next one when it is stopped."""

    def __init__(self) -> None:
        self.taken, self.is_full, self.is_stopped = list[bytes](), threading.Event(), threading.Event()

    def write(self, samples: bytes) -> None:
        self.taken.append(samples)
        if len(self.taken) > 1:
            self.is_full.set()
            self.is_stopped.wait(50)

    def end(self) -> None:
        """Nothing is left."""

    def stop(self) -> None:
        self.is_stopped.set()


class FakeStream:
    """sounddevice.RawOutputStream."""

    made: ClassVar[list[FakeStream]] = []

    def __init__(self, samplerate: int, channels: int, dtype: str) -> None:
        self.format, self.played, self.calls = (samplerate, channels, dtype), b"", list[str]()
        self.closed = False
        FakeStream.made.append(self)

    def start(self) -> None:
        self.calls.append("start")

    def write(self, samples: bytes) -> None:
        self.played += samples

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.calls.append("abort")


def test_sounddevice_comes_first_and_is_played_to_the_end(
    server: Any, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.SimpleNamespace(RawOutputStream=FakeStream, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    assert main(["say", "Hello.", "--play", "--target", server.target]) == 0
    stream = FakeStream.made[-1]
    assert (stream.format, len(stream.played), stream.calls) == ((24_000, 1, "int16"), 2 * SAMPLES, ["start", "stop"])
    assert stream.closed


def test_a_device_that_fails_at_the_end_is_an_error(
    server: Any, programs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(FakeStream):
        def stop(self) -> None:
            raise RuntimeError("unplugged")

    package = types.SimpleNamespace(RawOutputStream=Failing, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    assert main(["say", "Hello.", "--play", "--target", server.target]) == 1
    assert "error: The sound device failed: unplugged" in capsys.readouterr().err


def test_shells_can_complete_the_command_s_options() -> None:
    shtab = pytest.importorskip("shtab")
    script = shtab.complete(command_line(), "bash")
    assert "--as-one-utterance" in script and "--version" in script and "serve-info" in script
