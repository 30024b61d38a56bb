"""The programs: serve and say, as a person starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from csm_client.command.cli import main as csm

from services.all_in_one.one_utterance import run
from services.common.settings import load_settings
from services.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[3]


def environment(**more: str) -> Mapping[str, str]:
    paths = ":".join(str(ROOT / path) for path in (".", "gen/python", "clients/python"))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "CSM_GATEWAY_VOICES_DATABASE") if name in os.environ}
    return {"PYTHONPATH": paths} | kept | more


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    started = [sys.executable, "-m", *command]
    with subprocess.Popen(
        started, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as p:
        try:
            yield p
        finally:
            p.kill()


def read_target(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(r"Ready on (\S+)\.", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found[1]
    raise AssertionError("the server ended before it was ready")


def test_serve_answers_csm_say_and_a_kill_leaves_no_short_file(
    bundle: Path, keyring: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(bundle), "--watermark-keyring", str(keyring), "--port", "0", "--health-port", "0"]
    more = ["--http-port", "-1", "--metrics-port", "-1", "--slots", "1", "--threads", "1"]
    with running("services.all_in_one", *arguments, *more) as server:
        target = read_target(server)
        out = tmp_path / "hello.wav"
        say = ["say", "Hello.", "--out", str(out), "--target", target, "--max-seconds"]
        assert csm([*say, "0.4"]) == 0
        with wave.open(str(out)) as file:
            assert (file.getnframes(), file.getframerate()) == (5 * 1920, 24_000)
        printed = capsys.readouterr().out
        assert "untrained" in printed and "watermark" in printed
        out.unlink()
        killer = KillAtFirstAudio(server)
        sys.stderr, stderr = killer, sys.stderr
        try:
            code = csm([*say, "60", "--deadline", "10"])
        finally:
            sys.stderr = stderr
        assert code == 1
        assert re.search(r"no audio for \d s; waiting \d s more", killer.text)  # for a server that comes back
        assert "error: The audio is incomplete." in killer.text and "was not written" in killer.text
        assert list(tmp_path.iterdir()) == []


class KillAtFirstAudio:
    """Standard error of a client that watches for its first progress line and then kills the server."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self.text = ""
        self._server = server

    def write(self, text: str) -> None:
        self.text += text
        if "s of audio" in text:
            self._server.kill()

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def test_say_serves_and_speaks_in_one_command(bundle: Path, keyring: Path, tmp_path: Path) -> None:
    out = tmp_path / "hello.wav"
    options = ["--text", "Hello.", "--out", str(out), "--speaker", "1", "--seed", "7", "--max-seconds", "0.4"]
    server_options = ["--bundle", str(bundle), "--watermark-keyring", str(keyring), "--threads", "1"]
    command = [sys.executable, "-m", "services.all_in_one.say", *options, *server_options]
    for_others = {"CSM_GATEWAY_AUTH_TOKENS_FILE": str(tmp_path / "tokens.json")}
    done = subprocess.run(command, env={**environment(), **for_others}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with wave.open(str(out)) as file:
        assert file.getnframes() == 5 * 1920
    assert "loading the engine" in done.stderr and "ready after" in done.stderr
    for name in ("time to first audio", "audio length", "real-time factor", "finish reason", "watermark", "note"):
        assert re.search(f"^{name} ", done.stdout, re.MULTILINE), done.stdout


def test_say_ends_around_a_file_that_does_not_answer(bundle: Path, tmp_path: Path) -> None:
    """It said why it could not start, and waited for the thread that looked at the file."""
    os.mkfifo(lexicon := tmp_path / "lexicon.txt")
    program = f"""
import runpy, sys
from services.common import followed_files
followed_files.START_S = 0.1
sys.argv = ["say", "--text", "Hello.", "--out", "{tmp_path / "hello.wav"}", "--bundle", "{bundle}"]
runpy.run_module("services.all_in_one.say", run_name="__main__")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment(CSM_ENGINE_LEXICON=str(lexicon)), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1 and "lexicon.txt: no answer within 0.1 s" in done.stderr


def test_say_without_a_bundle_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(["--text", "Hello."])
    assert stopped.value.code == 2
    assert "--bundle (CSM_ALL_IN_ONE_BUNDLE) must be given" in capsys.readouterr().err


def test_gateway_program_stops_on_sigterm_with_zero() -> None:
    ports = ["--host", "127.0.0.1", "--port", "0", "--health-port", "0", "--metrics-port", "-1"]
    command = [sys.executable, "-m", "services.gateway", *ports, "--log-format", "json"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("program", ["engine", "codec"])
def test_every_line_is_json_also_of_libraries_that_are_imported(program: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"services.{program}", "--bundle", str(tmp_path), "--log-format", "json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1 and lines[-1]["message"].startswith("cannot start")
    assert {line["logger"] for line in lines} == {"csm.run"}


def test_gateway_program_refuses_a_wrong_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_settings(GatewaySettings, ["--max-turn-count", "-1"])
    assert stopped.value.code == 2
    assert "--max-turn-count (CSM_GATEWAY_MAX_TURN_COUNT) must be greater than or equal to 0" in capsys.readouterr().err
    assert GatewaySettings.model_fields["max_turn_count"].description
