"""Log lines in both formats."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from services.common.telemetry import logs


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
