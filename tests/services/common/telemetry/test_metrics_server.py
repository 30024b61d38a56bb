"""The HTTP server of the metrics."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from services.common.telemetry import metrics_server
from services.common.telemetry.metrics_server import MetricsServer

RESET = struct.pack("ii", 1, 0)  # linger for no time: closing resets the connection


async def test_caller_that_resets_its_connection_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /metr")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
        assert answer.status == 200  # a later connection is served, so the first one has its thread
    await server.stop()
    for thread in set(threading.enumerate()) - before:
        if "process_request_thread" in thread.name:
            thread.join(60)
    assert capfd.readouterr() == ("", "")


async def test_the_start_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer would hold up the event loop."""
    asked: list[str] = []
    monkeypatch.setattr(socket, "getfqdn", asked.append)
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    await server.stop()
    assert asked == []


async def test_other_failure_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    try:
        raise ValueError("odd bytes")
    except ValueError:
        with socket.socket() as connection:
            server._httpd.handle_error(connection, ("127.0.0.1", 1))
    await server.stop()
    assert "odd bytes" in caplog.text


async def test_an_idle_connection_is_closed_after_a_while(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics_server, "SILENT_S", 0.05)
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"GET /metr")
        assert connection.recv(1) == b""
    await server.stop()
    assert capfd.readouterr() == ("", "")


async def test_connections_beyond_the_most_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "MOST_CONNECTIONS", 2)
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    address = ("127.0.0.1", server.port)
    silent = [socket.create_connection(address, timeout=60) for _ in range(2)]
    for _ in range(3):
        with socket.create_connection(address, timeout=60) as beyond:
            assert beyond.recv(1) == b""
    for connection in silent:
        connection.close()
    await _is_scraped_at_last(address)
    await server.stop()


async def test_long_connections_are_closed_for_a_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(metrics_server, "SILENT_S", 600.0)
    monkeypatch.setattr(metrics_server, "LONGEST_S", 0.0)
    server = MetricsServer.start("127.0.0.1", 0, CollectorRegistry())
    address = ("127.0.0.1", server.port)
    endless = [socket.create_connection(address, timeout=60) for _ in range(2)]
    for connection in endless:
        connection.sendall(b"GET /metr")  # like a client that sends a byte now and then
    await _is_scraped_at_last(address)
    for connection in endless:
        with connection:
            assert connection.recv(1) == b""
    await server.stop()


async def _is_scraped_at_last(address: tuple[str, int]) -> None:
    """Requests until the threads of other connections have ended."""
    for _ in range(600):  # until their threads have ended
        with socket.create_connection(address, timeout=60) as later:
            later.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            try:
                if later.recv(12).endswith(b"200"):
                    break
            except ConnectionResetError:
                pass
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("The places did not come free.")


async def test_a_taken_port_is_named_with_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"Cannot listen on 127.0.0.1:{port} \(--metrics-port\): Address already"):
            MetricsServer.start("127.0.0.1", port, CollectorRegistry())
