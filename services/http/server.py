"""The server of the application: uvicorn in the stage's event loop, without signal handlers."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from services.common.background import Background
from services.common.followed_files import FollowedFiles
from services.common.rpc.server import most_connections
from services.common.rpc.tls import Loaded, Show, TlsFileError, read_end_s
from services.common.settings import host_and_port
from services.http.api.bodies import Bodies, Share
from services.http.connections import HEADER_BYTES, http_connection, websocket_connection
from services.http.cuts import LOOK_S, LOST_S, Connection, LostClients, SlowCloses, probe_idle_clients
from services.http.settings import HttpSettings

log = logging.getLogger("csm.http")

Cut = Callable[[Iterable[Connection], float], None]  # of the open connections; the loop's time in seconds

LAST_SECONDS = 5  # for answers that are still being written when the server stops
_BACKLOG = 2048


class HttpServer:
    """A listening server."""

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        bodies: Bodies,
        on_reload: Callable[[bool], None],
        show_end: Show,
        background: Background,
    ) -> None:
        """bodies: the budget for WebSocket messages. on_reload, show_end: of the TLS files; see FollowedFiles.

        Raises TlsFileError for files that cannot be used.
        """
        self.port = 0  # after start: the port that is listened on
        self._settings, self._background = settings, background
        config = self._config(app, settings, bodies, _tls_context(settings, on_reload, show_end))
        self._server = _Server(config, settings.header_timeout_seconds)
        self._serving: asyncio.Task[None] | None = None
        self._cutting: list[asyncio.Task[None]] = []

    @staticmethod
    def _config(app: ASGIApp, settings: HttpSettings, bodies: Bodies, context: ssl.SSLContext | None) -> uvicorn.Config:
        tls: dict[str, Any] = {} if context is None else {"ssl_context_factory": lambda config, default: context}
        return uvicorn.Config(
            app,
            http=http_connection(
                settings.header_timeout_seconds,
                settings.write_timeout_seconds,
                _most_connections(settings.max_connections),
            ),
            ws=websocket_connection(lambda: Share(bodies.try_take).try_hold),
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws_max_size=settings.largest_body_bytes,
            ws_per_message_deflate=False,
            # A client that reads as it plays has the pings behind its audio, and answers late. Others that answer none
            # are closed by the timeouts of writes and of idle sessions, and lost ones by LostClients.
            ws_ping_timeout=None,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=LAST_SECONDS,
            h11_max_incomplete_event_size=HEADER_BYTES,
            **tls,
        )

    async def start(self) -> None:
        """Returns when it answers. Raises OSError for a taken port."""
        listening = _listen(self._settings.host, self._settings.port)
        self.port = listening.getsockname()[1]
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        most_s = self._settings.write_timeout_seconds
        self._cutting = [
            self._background.start(
                "cut of slow closes", partial(self._cut_every, min(most_s, 1.0), SlowCloses(most_s).cut)
            ),
            self._background.start("cut of lost clients", partial(self._cut_every, LOOK_S, LostClients(LOST_S).cut)),
        ]
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise OSError("The HTTP server ended while it was starting.")
            await asyncio.sleep(0.01)

    def connections(self) -> list[asyncio.Transport]:
        """Open connections."""
        return [connection.transport for connection in self._server.server_state.connections]

    async def wait_failed(self) -> BaseException:
        """Returns when the server ends without a stop."""
        assert self._serving is not None
        await asyncio.wait({self._serving})
        error = None if self._serving.cancelled() else self._serving.exception()
        return error or OSError("The HTTP server has ended.")

    async def stop(self) -> None:
        """Closes every connection. Answers that are being written get LAST_SECONDS."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait({self._serving})
        for cutting in self._cutting:
            cutting.cancel()

    async def _cut_every(self, seconds: float, cut: Cut) -> None:
        while True:
            await asyncio.sleep(seconds)
            cut(self._server.server_state.connections, asyncio.get_running_loop().time())


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, handshake_timeout_s: float) -> None:
        super().__init__(config)
        self._handshake_timeout_s = handshake_timeout_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Like uvicorn's, with a timeout of TLS handshakes, for which asyncio's default is 60 s."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()

        def make_connection() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]  # uvicorn's own classes take them
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        tls: dict[str, Any] = {}
        if self.config.ssl is not None:
            tls = {"ssl": self.config.ssl, "ssl_handshake_timeout": self._handshake_timeout_s}
        self.servers = [
            await loop.create_server(make_connection, sock=each, backlog=self.config.backlog, **tls)
            for each in sockets or []
        ]
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Drops uvicorn's errors for a broken stream, which has its own log line, and for invalid UTF-8 of a client."""
    known = ("ASGI callable returned without completing response", "Invalid UTF-8 sequence received from client.")
    return not str(record.msg).startswith(known)


def _most_connections(asked: int) -> int:
    """`asked`, or fewer if the process may not open so many files."""
    most = most_connections()
    if most is None or most >= asked:
        return asked
    log.warning("--max-connections is %d here and not %d, for the limit of open files", most, asked)
    return most


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is named. Without it the first audio waits 40 ms for an
    # acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe_idle_clients(listening)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(f"Cannot listen on {host_and_port(host, port)}: {error.strerror or error}.") from None
    return listening


def _tls_context(settings: HttpSettings, on_reload: Callable[[bool], None], show_end: Show) -> ssl.SSLContext | None:
    """A context that reloads changed files at each handshake; None for plaintext. Raises TlsFileError."""
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None

    def load() -> Loaded[ssl.SSLContext]:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # The empty password makes an encrypted key an error instead of a question on the terminal.
            made.load_cert_chain(certificate, key, password="")
            pem = certificate.read_bytes()
        except OSError as error:  # SSLError is one
            raise TlsFileError(f"--tls-certificate {certificate} and --tls-key {key} cannot be used: {error}") from None
        if client_ca is not None:
            try:
                made.load_verify_locations(client_ca)
            except OSError as error:
                raise TlsFileError(f"--tls-client-ca {client_ca} cannot be used: {error}") from None
            made.verify_mode = ssl.CERT_REQUIRED
        return Loaded(made, read_end_s("--tls-certificate", certificate, pem))

    files = FollowedFiles(
        [path for path in (certificate, key, client_ca) if path is not None], load, on_reload=on_reload
    )

    def use_the_newest(handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        handshake.context = files.current.credentials

    show_end(lambda: files.current.certificate_end_s)
    first = files.current.credentials
    first.sni_callback = use_the_newest
    return first
