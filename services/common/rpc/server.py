"""The server of a stage: its services, health on a port of its own, reflection, metrics, and a graceful stop.

Health answers on a separate server so that a full or TLS-only API port cannot make a probe fail. Names: each service,
"" and "readiness" (SERVING between `set_serving` and the drain), "liveness" (SERVING until a fatal failure); all are
NOT_SERVING while the stage makes no progress. The API port answers health too, for clients that balance their calls:
gateways those to engine and codec, HTTP servers those to gateways. It knows no service by name.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2

from services.common.rpc import replica_id
from services.common.rpc.calls import Admit, CallInterceptor
from services.common.rpc.health import HealthServicer, add_health_to_server
from services.common.rpc.incoming.lingering import DRAIN_QUIET_S
from services.common.rpc.incoming.memory_guard import UNGUARDED, MemoryGuard
from services.common.rpc.reflection import enable_reflection
from services.common.rpc.tls import server_credentials
from services.common.settings import StageSettings, host_and_port
from services.common.telemetry.metrics import StageMetrics
from services.common.telemetry.metrics_server import MetricsServer
from services.common.telemetry.spans import Tracer

log = logging.getLogger("csm.server")

LIVENESS = "liveness"
READINESS = "readiness"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

ChannelOption = tuple[str, int]

KEEPALIVE_OPTIONS: tuple[ChannelOption, ...] = (
    # Clients may ping often, to notice a dead peer early: gateways do every second, the Python and Node clients every
    # other second. gRPC's default closes the connection for that.
    ("grpc.http2.min_ping_interval_without_data_ms", 300),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

# Of a connection to the health port. A client that follows the health of a name thus learns its new replicas before
# those that it knows drain: Kubernetes takes a pod out of the name 10 s (preStop) before SIGTERM.
HEALTH_CONNECTION_AGE_MS = 4_000

WATCHES = 1  # of health, by a client that balances its calls: on each connection, beside the calls
UNREAD_BYTES = 512 * 1024  # buffered for one call before its handler reads
OTHER_FILES = 192  # descriptors kept for all but callers' connections: probes, metrics, other stages, databases, files


class StageService(NamedTuple):
    """One gRPC service of a stage."""

    add_to_server: Callable[[Any, grpc.aio.Server], None]  # generated: add_XServicer_to_server
    servicer: object
    name: str  # full name: "csm.v1.TextToSpeechService"


def most_connections() -> int | None:
    """Connections for which the process has file descriptors; None without a limit."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else max(1, files - OTHER_FILES)


def server_options(settings: StageSettings, *, streams_per_connection: int = 0) -> list[ChannelOption]:
    """The options of the API server."""
    options = [
        *KEEPALIVE_OPTIONS,
        ("grpc.max_receive_message_length", settings.max_receive_message_bytes),
        ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server behind it
        # How much of a message is buffered before a handler reads it. By default gRPC buffers as much as the bandwidth
        # allows, which on a fast line is the whole message.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", UNREAD_BYTES),
    ]
    if (most := most_connections()) is not None:  # else a flood also blocks the health port and the metrics
        options.append(("grpc.max_allowed_incoming_connections", min(most, 2**31 - 1)))
    if streams_per_connection:
        options.append(("grpc.max_concurrent_streams", streams_per_connection + WATCHES))
    if settings.max_connection_age_seconds:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age_seconds * 1000))
    return options


class StageServer:
    """Everything that listens in a stage. `start` and `drain` are for tests as well as for programs.

    Use it in a running event loop.
    """

    def __init__(
        self,
        settings: StageSettings,
        services: Sequence[StageService],
        metrics: StageMetrics | None = None,
        admit: Admit | None = None,
        tracer: Tracer | None = None,
        *,
        for_gateways: bool = False,
        private_address: str = "",
        streams_per_connection: int = 0,
        guard: MemoryGuard = UNGUARDED,
    ) -> None:
        """admit: authenticates calls of the API port, None admits all; tracer: stopped at the end of the drain

        for_gateways: the callers are gateways, which tell replicas apart
        private_address: a second address of the API, without TLS, such as "unix:/run/private/socket"
        streams_per_connection: concurrent calls of one connection, beside WATCHES; 0 is no limit. Engine and codec have
        none: a gateway would take a call that waits for room on its connection for one to a frozen stage.
        """
        self.settings = settings
        self.metrics = metrics or StageMetrics()
        self.port = 0  # after start: the port that is listened on
        self.health_port = 0
        self.metrics_port = -1
        self._tracer = tracer
        self._services = services
        self._health = HealthServicer()
        self._api_server: grpc.aio.Server | None = None
        replica = replica_id.new() if for_gateways else ""
        self._calls = CallInterceptor(self.metrics, admit, tracer, guard=guard, replica=replica)  # of the API port
        self._health_server: grpc.aio.Server | None = None
        self._metrics_server: MetricsServer | None = None
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._private_address = private_address
        self._streams_per_connection = streams_per_connection
        self._guard = guard
        self._guarding: asyncio.Task[None] | None = None
        self._closed_at_s: float | None = None  # on the monotonic clock
        self._draining = False
        self._is_serving = False
        self._stalled: set[str] = set()  # threads that make no progress

    async def start(self) -> None:
        """Listens on every port; readiness stays NOT_SERVING. Raises OSError for a taken port."""
        host = self.settings.host
        self._report_health()
        self._health_server = grpc.aio.server(
            interceptors=[CallInterceptor(None, guard=self._guard)],
            options=[
                *KEEPALIVE_OPTIONS,
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", HEALTH_CONNECTION_AGE_MS),
            ],
        )
        add_health_to_server(self._health, self._health_server)
        if self.settings.reflection:
            enable_reflection([health.SERVICE_NAME], self._health_server)
        self.health_port = _listen(self._health_server, host, self.settings.health_port, "--health-port")
        self._api_server = grpc.aio.server(
            interceptors=[self._calls],
            options=server_options(self.settings, streams_per_connection=self._streams_per_connection),
        )
        add_health_to_server(self._health, self._api_server)
        for service in self._services:
            service.add_to_server(service.servicer, self._api_server)
        if self.settings.reflection:
            enable_reflection([service.name for service in self._services], self._api_server)
        self.port = _listen(self._api_server, host, self.settings.port, "--port", self._credentials())
        if self._private_address:
            self._api_server.add_insecure_port(self._private_address)
        if self.settings.metrics_port >= 0:
            self._metrics_server = MetricsServer.start(host, self.settings.metrics_port, self.metrics.registry)
            self.metrics_port = self._metrics_server.port
        await self._health_server.start()
        await self._api_server.start()
        self._guarding = self.metrics.background.start("memory guard", self._guard.run)
        log.info(
            "listening on %s: api port %d, health port %d, metrics port %d",
            host,
            self.port,
            self.health_port,
            self.metrics_port,
        )

    @property
    def is_ready(self) -> bool:
        return self._takes_calls and self._closed_at_s is None

    @property
    def _takes_calls(self) -> bool:
        """Perhaps only some; see `close`."""
        return self._is_serving and self._is_live and not self._draining

    @property
    def _is_live(self) -> bool:
        return not self._stalled and not self._failure.done()

    def set_serving(self, serving: bool = True) -> None:
        """Readiness of the stage: weights are loaded and warm, backends answer. Has no effect in a drain."""
        self._is_serving = serving
        self._report_health()

    def set_stalled(self, thread: str, stalled: bool) -> None:
        """Whether a thread makes no progress. While one does not, the stage is neither live nor ready."""
        if stalled:
            self._stalled.add(thread)
        else:
            self._stalled.discard(thread)
        self._report_health()

    def fail(self, error: BaseException) -> None:
        """The stage cannot go on, and is neither live nor ready. Ends `wait_failed`, and so the program."""
        if not self._failure.done():
            self._failure.set_result(error)
            self._report_health()

    async def wait_failed(self) -> BaseException:
        """Returns when `fail` is called, with what it was called with."""
        return await asyncio.shield(self._failure)

    def close(self, but: str) -> None:
        """Is not ready, and refuses new calls, except those of addresses that begin with `but`: callers that drain
        before it. The time of running calls begins.
        """
        self._calls.gate.open_to, self._closed_at_s = but, time.monotonic()
        self._report_health()

    async def drain(self, grace_s: float | None = None) -> None:
        """Reports NOT_SERVING, refuses new calls, gives running calls `grace_s` to end, then stops everything.

        grace_s: None is settings.drain_seconds, from `close` on.

        Calls that wait for their caller's next message end sooner (lingering.py), and so do those without a handler.
        """
        self._draining = True
        self._report_health()
        if self._api_server is not None:
            await self._stop_calls(self._left_s if grace_s is None else grace_s)
        if self._tracer is not None:
            await self._tracer.stop()
            self._tracer = None
        if self._metrics_server is not None:
            await self._metrics_server.stop()
            self._metrics_server = None
        if self._health_server is not None:
            await self._health_server.stop(0)
        if self._guarding is not None:
            self._guarding.cancel()

    @property
    def _left_s(self) -> float:
        closed_for_s = 0.0 if self._closed_at_s is None else time.monotonic() - self._closed_at_s
        return max(0.0, self.settings.drain_seconds - closed_for_s)

    async def _stop_calls(self, grace_s: float) -> None:
        assert self._api_server is not None
        self._calls.drain()
        stopping = asyncio.create_task(self._api_server.stop(grace_s))
        while not (await asyncio.wait({stopping}, timeout=DRAIN_QUIET_S))[0]:
            if not self._calls.num_running:  # the remaining calls have not sent their request yet, for which gRPC waits
                stopping.cancel()
                await asyncio.wait({stopping})
                await self._api_server.stop(0)
                return
        await stopping

    def _credentials(self) -> grpc.ServerCredentials | None:
        certificate, key = self.settings.tls_certificate, self.settings.tls_key
        if certificate is None or key is None:
            return None
        reloads = self.metrics.file_reloads("tls_certificate")
        show_end = self.metrics.certificate_ends("tls_certificate")
        return server_credentials(certificate, key, self.settings.tls_client_ca, reloads, show_end)

    def _report_health(self) -> None:
        self._health.set(LIVENESS, _SERVING if self._is_live else _NOT_SERVING)
        for name in ("", READINESS):
            self._health.set(name, _SERVING if self.is_ready else _NOT_SERVING)
        for service in self._services:
            self._health.set(service.name, _SERVING if self._takes_calls else _NOT_SERVING)


def _listen(
    server: grpc.aio.Server, host: str, port: int, flag: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    address = host_and_port(host, port)
    try:
        if credentials is not None:
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError as error:
        why = "the port may be taken, or the host may be no address of this machine"
        raise OSError(f"Cannot listen on {address} ({flag}); {why}.") from error
