"""Serves the metrics of a stage over HTTP, from threads of their own. It knows no metric."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from services.common.settings import host_and_port

log = logging.getLogger("csm.metrics")

MOST_CONNECTIONS = 32  # each has a thread; a scrape takes milliseconds
SILENT_S = 10.0  # longest wait for the next bytes of a request, or for room for those of its answer
LONGEST_S = 60.0  # that a connection keeps its place when another one wants it


class MetricsServer:
    """Serves a registry at `/metrics`."""

    def __init__(self, httpd: WSGIServer, thread: threading.Thread) -> None:
        self._httpd = httpd
        self._thread = thread

    @classmethod
    def start(cls, host: str, port: int, registry: CollectorRegistry) -> MetricsServer:
        """port: 0 takes a free one. Raises OSError for a taken one, and for a host that is not here."""
        try:
            family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            server: type[_Server] = type("_ServerOfFamily", (_Server,), {"address_family": family})
            httpd = make_server(host, port, make_wsgi_app(registry), server, handler_class=_Request)
        except OSError as error:
            why = error.strerror or error
            raise OSError(f"Cannot listen on {host_and_port(host, port)} (--metrics-port): {why}.") from None
        thread = threading.Thread(target=httpd.serve_forever, name="metrics", daemon=True)
        thread.start()
        return cls(httpd, thread)

    @property
    def port(self) -> int:
        return self._httpd.server_port

    async def stop(self) -> None:
        await asyncio.to_thread(self._httpd.shutdown)
        self._httpd.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection. One beyond MOST_CONNECTIONS is closed at once, and with it all that have been open
    for LONGEST_S: their places are for the next ones.
    """

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, *arguments: Any) -> None:
        self._opened: dict[Any, float] = {}  # connections, oldest first; changed by the threads
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Without the library's question to a name server, which may take long, and would hold up the event loop."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        now_s = time.monotonic()
        if len(self._opened) >= MOST_CONNECTIONS:
            for old in [each for each, opened_s in self._opened.copy().items() if now_s - opened_s >= LONGEST_S]:
                with suppress(OSError):  # it has just ended
                    old.shutdown(socket.SHUT_RDWR)  # its thread then reads the end of it, and closes it
            self.shutdown_request(request)
            return
        self._opened[request] = now_s
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread that would give the place back
            del self._opened[request]
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._opened[request]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a request that raised. A caller that leaves is no failure; the library would print its traceback."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("a request for the metrics failed", exc_info=error)


class _Request(WSGIRequestHandler):
    @property
    def timeout(self) -> float:  # type: ignore[override]
        return SILENT_S

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged of a request."""
