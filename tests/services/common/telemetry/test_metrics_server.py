"""The HTTP server of the metrics."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from services.common.telemetry.metrics import MetricsServer

RESET = struct.pack("ii", 1, 0)  # linger for no time: closing resets the connection


async def test_caller_that_resets_its_connection_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /metr")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
        assert answer.status == 200  # of a later connection, so the first one has its thread
    await server.stop()
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(60)
    assert capfd.readouterr() == ("", "")


async def test_other_failure_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    try:
        raise ValueError("odd bytes")
    except ValueError:
        with socket.socket() as connection:
            server._httpd.handle_error(connection, ("127.0.0.1", 1))
    await server.stop()
    assert "odd bytes" in caplog.text
