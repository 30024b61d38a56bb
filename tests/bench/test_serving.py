"""The program: options that it accepts and refuses, and its output."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bench import serving
from bench.listeners.workload import PROMPTS
from tests.support.scripted_server import Chunk, ScriptedServer


async def test_the_last_line_is_the_json_that_is_written(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prompt in PROMPTS:
        server.script(prompt, Chunk(0.0, 0.5))
    out = tmp_path / "results" / "serving.json"
    arguments = ["--target", server.target, "--rates", "20,40", "--duration", "0.5", "--context", "1"]
    arguments += ["--device-name", "none", "--out", str(out)]
    assert await asyncio.to_thread(serving.main, arguments) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(out.read_text())
    assert (last["benchmark"], last["device"], last["model"]) == ("serving", "none", "scripted/1")
    assert [row["rate"] for row in last["rows"]] == [20, 40]
    assert all(row["sent"] == row["completed"] > 0 for row in last["rows"])
    assert [row["mean_context_tokens"] for row in last["rows"]] == [1, 1]
    assert last["commit"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--target", "10.0.0.7:50051"], "--allow-remote"),
        (["--target", "tts.example.com:50051"], "--allow-remote"),
        (["--target", "dns:///localhost:50051"], "--allow-remote"),
        (["--target", "localhost:1", "--rates", "0"], "--rates"),
        (["--target", "localhost:1", "--rates", "5000"], "--rates"),
        (["--target", "localhost:1", "--duration", "1e9"], "--duration"),
        (["--target", "localhost:1", "--rates", "900", "--duration", "60"], "--max-requests is 2000"),
        (["--target", "localhost:1", "--max-audio-seconds", "9:1"], "--max-audio-seconds"),
        (["--target", "localhost:1", "--slots", "8"], "unknown options: --slots 8"),
        (["--serve"], "--serve needs --bundle"),
        ([], "--target"),
    ],
)
def test_wrong_options_are_named_in_the_error(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        serving.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("target", ["127.0.0.1:5", "localhost:5", "[::1]:5", "127.8.8.8:5"])
def test_loopback_needs_no_permission(target: str) -> None:
    assert serving.is_loopback(target)


def test_another_machine_is_loaded_only_with_permission() -> None:
    options, _ = serving.parse_arguments(["--target", "10.0.0.7:50051", "--allow-remote"])
    assert options.target == "10.0.0.7:50051"


def test_unknown_options_are_passed_to_the_server() -> None:
    options, rest = serving.parse_arguments(["--serve", "--bundle", "b", "--slots", "8", "--device", "cuda"])
    assert (options.bundle, rest) == ("b", ["--slots", "8", "--device", "cuda"])


def test_a_server_that_is_not_there_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["--target", "127.0.0.1:1", "--duration", "1", "--deadline", "5"]) == 1
    assert "error:" in capsys.readouterr().err


def test_a_server_that_does_not_start_ends_the_program_with_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["--serve", "--bundle", "nowhere", "--slots", "-1", "--duration", "1"]) == 1
    told = capsys.readouterr().err
    assert "did not start" in told
    assert "slots" in told
