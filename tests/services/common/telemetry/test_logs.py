"""Log lines in both formats."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading

import pytest

from services.common.telemetry import log_lines, logs
from services.common.telemetry.log_lines import LineWriter


def record() -> logging.LogRecord:
    made = logging.LogRecord("csm.rpc", logging.INFO, "f.py", 1, "call ended", (), None)
    made.fields = {"code": "OK", "duration_ms": 1.5}
    made.request_id = "an-id"
    return made


def test_json_line_holds_fields_and_request_id() -> None:
    line = json.loads(logs.JsonFormatter().format(record()))
    assert line["request_id"] == "an-id"
    assert (line["code"], line["duration_ms"], line["message"]) == ("OK", 1.5, "call ended")


def test_the_trace_id_is_logged_beside_the_request_id() -> None:
    traced = record()
    traced.trace_id = "a-trace"
    assert json.loads(logs.JsonFormatter().format(traced))["trace_id"] == "a-trace"
    assert " [an-id a-trace] call ended " in logs.TextFormatter().format(traced)


def test_text_line_holds_fields_and_request_id() -> None:
    line = logs.TextFormatter().format(record())
    assert line.endswith("info csm.rpc [an-id] call ended code=OK duration_ms=1.5")
    assert "\n" not in line


def test_line_breaks_of_a_caller_start_no_log_line() -> None:
    made = record()
    made.fields = {"voice": "a\n2026-11-28T00:00:00.000Z info csm.rpc forged\u2028\x1b[2J", "code": "OK"}
    line = logs.TextFormatter().format(made)
    assert line.endswith(r'voice="a\n2026-11-28T00:00:00.000Z info csm.rpc forged\u2028\u001b[2J" code=OK')
    assert len(line.splitlines()) == 1 and "\n" not in logs.JsonFormatter().format(made)


def test_import_of_the_migrations_logs_nothing() -> None:
    program = """
from services.common.telemetry.logs import configure_logging
configure_logging("text", "info")
import services.gateway.voices.migrate
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert done.stderr == ""


def test_whoever_logs_does_not_wait_for_the_reader_and_hears_how_many_lines_were_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begins, reads, had_lock = threading.Event(), threading.Event(), list[bool]()

    class Pipe(io.StringIO):
        def write(self, text: str) -> int:
            begins.set()
            assert reads.wait(30), "nobody waited for the reader"
            return super().write(text)

    class Writer(LineWriter):
        def emit(self, record: logging.LogRecord) -> None:
            had_lock.append(self.lock._is_owned())  # type: ignore[union-attr]
            super().emit(record)

    monkeypatch.setattr(log_lines, "MOST_LINES", 3)
    monkeypatch.setattr(log_lines, "FLUSH_S", 0.01)
    pipe = Pipe()
    writer = Writer(pipe)
    for number in range(10):
        writer.handle(logging.LogRecord("csm", logging.INFO, "f.py", 1, "line %d", (number,), None))
        assert begins.wait(30)  # it has taken the first line; three more have room
    writer.flush()
    assert pipe.getvalue() == ""
    monkeypatch.setattr(log_lines, "FLUSH_S", 60.0)
    reads.set()
    writer.flush()
    lost = "6 log lines are lost: standard error did not take them"
    assert pipe.getvalue().splitlines() == [*(f"line {number}" for number in range(4)), lost]
    assert had_lock == 11 * [True]


def test_lines_go_on_after_one_that_cannot_be_made_or_written(capsys: pytest.CaptureFixture[str]) -> None:
    class Stream(io.TextIOWrapper):
        def write(self, text: str) -> int:
            if text == "unwritable\n":
                raise RuntimeError("of any kind")
            return super().write(text)

    written = io.BytesIO()
    writer = LineWriter(Stream(written))
    for text, args in (("%d", ("no number",)), ("unwritable", ()), ("a line", ())):
        writer.handle(logging.LogRecord("csm", logging.INFO, "f.py", 1, text, args, None))
    writer.flush()
    assert written.getvalue() == b"a line\n"
    assert "no number" in capsys.readouterr().err
