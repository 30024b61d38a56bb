"""clients/node against a server: the whole stream, and everything that can be wrong with one.

Tests that take `target` run against a fake server and against the three real stages; the others need the fake one,
which can be told to misbehave. The client's packages come from `npm ci` in clients/node.
"""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

CLIENT = Path(__file__).parents[2] / "clients" / "node"


@pytest.fixture(autouse=True)
def packages_are_installed() -> None:
    if not (CLIENT / "node_modules" / "@grpc").is_dir():
        pytest.fail("clients/node has no packages; run `npm ci` there.")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "speech.wav"


def command(target: str, out: Path, *arguments: str) -> list[str]:
    return ["node", str(CLIENT / "say.mjs"), "--target", target, "--out", str(out), *arguments]


def say(target: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(target, out, *arguments), capture_output=True, text=True, timeout=100, check=False)


def test_stream_becomes_a_playable_file(target: str, out: Path) -> None:
    result = say(target, out, "Hello.", "--speaker", "0", "--seed", "7", "--max-seconds", "2")
    assert result.returncode == 0, result.stderr
    with wave.open(str(out), "rb") as audio:
        assert (audio.getnchannels(), audio.getsampwidth()) == (1, 2)
        seconds = audio.getnframes() / audio.getframerate()
    assert f"{seconds:.2f} s, FINISH_REASON_" in result.stdout
    assert "watermark key" in result.stdout


def test_unary_answer_becomes_a_playable_file(target: str, out: Path) -> None:
    result = say(target, out, "Hello.", "--unary", "--max-seconds", "1")
    assert result.returncode == 0, result.stderr
    with wave.open(str(out), "rb") as audio:
        assert audio.getnframes() > 0


@pytest.mark.parametrize("way", [[], ["--unary"]])
def test_wrong_request_names_the_field(target: str, out: Path, way: list[str]) -> None:
    result = say(target, out, "", *way)
    assert result.returncode == 1
    assert "INVALID_ARGUMENT" in result.stderr
    assert "input.text: " in result.stderr
    assert "reason: TEXT_EMPTY" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lost", "UNAVAILABLE: The engine was lost."),
        ("cut", "ended without a summary"),
        ("gap", "sample 3840 was due, 5760 came"),
    ],
)
def test_incomplete_stream_leaves_no_file(fake_server: Any, out: Path, text: str, complaint: str) -> None:
    result = say(fake_server.target, out, text)
    assert result.returncode == 1
    assert complaint in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(("server", "text"), [("fake_server", "stall"), ("real_server", "Hello.")])
def test_killed_server_leaves_no_file(request: pytest.FixtureRequest, out: Path, server: str, text: str) -> None:
    running = request.getfixturevalue(server)
    with subprocess.Popen(
        command(running.target, out, text, "--max-seconds", "80"), stderr=subprocess.PIPE, text=True
    ) as client:
        assert client.stderr is not None
        progress = ""
        while "s of audio" not in progress:
            progress += client.stderr.read(1)
        running.process.kill()
        complaint = client.stderr.read()
        assert client.wait() == 1
    assert "UNAVAILABLE" in complaint
    assert not out.exists()


def test_deadline_ends_a_stalled_stream(fake_server: Any, out: Path) -> None:
    result = say(fake_server.target, out, "stall", "--deadline-seconds", "1")
    assert result.returncode == 1
    assert "DEADLINE_EXCEEDED" in result.stderr
    assert not out.exists()


def test_longest_unary_audio_arrives_and_more_would_not(fake_server: Any, out: Path) -> None:
    """80 s of 24 kHz PCM fit a default client's 4 MiB; 88 s do not."""
    assert say(fake_server.target, out, "x", "--unary", "--max-seconds", "80").returncode == 0
    assert out.stat().st_size == 44 + 80 * 24_000 * 2
    out.unlink()
    result = say(fake_server.target, out, "x", "--unary", "--max-seconds", "88")
    assert result.returncode == 1
    assert "RESOURCE_EXHAUSTED" in result.stderr
    assert not out.exists()


def test_no_server_is_said_at_once(out: Path) -> None:
    result = say("127.0.0.1:1", out, "Hello.", "--deadline-seconds", "5")
    assert result.returncode == 1
    assert "UNAVAILABLE" in result.stderr
