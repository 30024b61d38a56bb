"""clients/node against a server: the whole stream, and everything that can be wrong with one.

Tests that take `target` run against a fake server and against the three real stages; the others need the fake one,
which can be told to misbehave.
"""

from __future__ import annotations

import re
import subprocess
import wave
from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tests.polyglot.conftest import NODE_CLIENT

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]


def test_stream_becomes_a_playable_file(target: str, node: Any) -> None:
    result = node.say(target, "Hello.", "--speaker", "0", "--seed", "7", "--max-seconds", "2")
    assert result.returncode == 0, result.stderr
    with wave.open(str(node.out), "rb") as audio:
        assert (audio.getnchannels(), audio.getsampwidth()) == (1, 2)
        seconds = audio.getnframes() / audio.getframerate()
    assert f"{seconds:.2f} s, FINISH_REASON_" in result.stdout
    assert "watermark key" in result.stdout


def test_unary_answer_becomes_a_playable_file(target: str, node: Any) -> None:
    result = node.say(target, "Hello.", "--unary", "--max-seconds", "1")
    assert result.returncode == 0, result.stderr
    with wave.open(str(node.out), "rb") as audio:
        assert audio.getnframes() > 0


@pytest.mark.parametrize("way", [[], ["--unary"]])
@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".MP3", b"\xff\xf3"), (".aac", b"\xff\xf1"), (".flac", b"fLaC"), (".ogg", b"OggS"), (".opus", b"OggS")],
)
def test_the_file_name_chooses_the_format(
    real_server: Any, node: Any, way: list[str], suffix: str, start: bytes
) -> None:
    out = node.out.with_suffix(suffix)
    result = node.say(real_server.target, "Hello.", "--max-seconds", "1", "--out", str(out), *way)
    assert result.returncode == 0, result.stderr
    assert out.read_bytes().startswith(start)


def test_speed_shortens_the_frames(real_server: Any, node: Any) -> None:
    """Of frames of 80 ms, 12 fit into a second, and 25 of those that are said in half the time."""
    lengths = []
    for speed in ("1", "2"):
        result = node.say(real_server.target, "Hello.", "--seed", "7", "--max-seconds", "1", "--speed", speed)
        assert result.returncode == 0, result.stderr
        with wave.open(str(node.out), "rb") as audio:
            lengths.append(audio.getnframes())
    assert lengths == [12 * 1920, 25 * 960]


def test_length_may_be_a_fraction_of_a_second(real_server: Any, node: Any) -> None:
    result = node.say(real_server.target, "Hello.", "--max-seconds", "0.5")
    assert result.returncode == 0, result.stderr
    with wave.open(str(node.out), "rb") as audio:
        assert 0 < audio.getnframes() / audio.getframerate() <= 0.5


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("speaker", "one"),
        ("speaker", "1.5"),
        ("speaker", "4294967296"),
        ("seed", "1e3"),
        ("seed", "18446744073709551616"),
        ("max-seconds", "long"),
        ("speed", "fast"),
        ("max-seconds", ""),
        ("deadline-seconds", "soon"),
        ("deadline-seconds", "0"),
        ("deadline-seconds", "1e30"),
    ],
)
def test_a_malformed_number_is_refused(node: Any, option: str, value: str) -> None:
    result = node.say("127.0.0.1:1", "Hello.", f"--{option}", value)
    assert result.returncode == 2
    assert f"--{option} must be" in result.stderr and value in result.stderr


@pytest.mark.parametrize(
    ("arguments", "why"), [(["Hello.", "--out", "a.m4a"], ".m4a is another format"), ([], "What to say is missing")]
)
def test_wrong_arguments_are_refused_before_any_call(node: Any, arguments: list[str], why: str) -> None:
    result = node.say("127.0.0.1:1", *arguments)
    assert (result.returncode, why in result.stderr) == (2, True)


def test_help_lists_every_option_of_the_readme_and_calls_nothing(node: Any) -> None:
    readme = (NODE_CLIENT / "README.md").read_text()
    options = {
        option for row in re.findall(r"^\| (`-.*?) \|", readme, re.M) for option in re.findall("`(--[a-z-]+)", row)
    }
    for flag in ("--help", "-h"):
        result = node.say("127.0.0.1:1", flag)
        assert (result.returncode, result.stderr) == (0, "")
        assert set(re.findall(r"^  (--[a-z-]+)", result.stdout, re.M)) == options > {"--target", "--token-file"}


def test_a_failed_call_has_the_retry_delay_and_request_id(node: Any) -> None:
    details = (
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
        error_details_pb2.ResourceInfo(resource_name="ada"),
        error_details_pb2.RequestInfo(request_id="abc-1"),
    )
    status = status_pb2.Status(code=14, message="Full.")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    program = f"""
        import {{ explain }} from '{NODE_CLIENT / "errors.mjs"}';
        const metadata = {{ get: () => [Buffer.from('{status.SerializeToString().hex()}', 'hex')] }};
        console.log(explain({{ code: 14, details: 'Full.', metadata }}).join('\\n'));
    """
    command = ["node", "--input-type=module", "--eval", program]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == "UNAVAILABLE: Full.\n  call again after: 1.5 s\n  request id: abc-1\n"


@pytest.mark.parametrize("way", [[], ["--unary"]])
def test_wrong_request_names_the_field(target: str, node: Any, way: list[str]) -> None:
    result = node.say(target, "", *way)
    assert result.returncode == 1
    assert "INVALID_ARGUMENT" in result.stderr
    assert "input.text: " in result.stderr
    assert "reason: TEXT_EMPTY" in result.stderr
    assert not node.out.exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lost", "UNAVAILABLE: The engine was lost."),
        ("cut", "ended without a summary"),
        ("gap", "sample 3840 was due, 5760 came"),
    ],
)
def test_incomplete_stream_leaves_no_file(fake_server: Any, node: Any, text: str, complaint: str) -> None:
    result = node.say(fake_server.target, text)
    assert result.returncode == 1
    assert complaint in result.stderr
    assert not node.out.exists()


@pytest.mark.parametrize(("server", "text"), [("fake_server", "stall"), ("real_server", "Hello.")])
def test_killed_server_leaves_no_file(request: pytest.FixtureRequest, node: Any, server: str, text: str) -> None:
    running = request.getfixturevalue(server)
    with subprocess.Popen(
        node.command(running.target, text, "--max-seconds", "80", "--deadline-seconds", "20"),
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stderr is not None
        progress = ""
        while "s of audio" not in progress:
            progress += client.stderr.read(1)
        running.process.kill()
        complaint = client.stderr.read()
        assert client.wait() == 1
    assert "UNAVAILABLE" in complaint
    assert not node.out.exists()


def test_deadline_ends_a_stalled_stream(fake_server: Any, node: Any) -> None:
    result = node.say(fake_server.target, "stall", "--deadline-seconds", "1")
    assert result.returncode == 1
    assert "DEADLINE_EXCEEDED" in result.stderr
    assert not node.out.exists()


def test_the_longest_unary_audio_fits_the_message_limit(fake_server: Any, node: Any) -> None:
    """80 s of 24 kHz PCM fit a default client's 4 MiB; 88 s do not."""
    assert node.say(fake_server.target, "x", "--unary", "--max-seconds", "80").returncode == 0
    assert node.out.stat().st_size == 44 + 80 * 24_000 * 2
    node.out.unlink()
    result = node.say(fake_server.target, "x", "--unary", "--max-seconds", "88")
    assert result.returncode == 1
    assert "RESOURCE_EXHAUSTED" in result.stderr
    assert not node.out.exists()


def test_an_unreachable_server_is_reported_at_once(node: Any) -> None:
    result = node.say("127.0.0.1:1", "Hello.", "--deadline-seconds", "5")
    assert result.returncode == 1
    assert "UNAVAILABLE" in result.stderr
