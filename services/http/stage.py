"""The HTTP server as a running stage: a channel to the gateway, the application, its server, metrics."""

from __future__ import annotations

import logging

from csm_client import TlsFileError

from services.common.rpc.tls import read_end_s
from services.common.settings import host_and_port, reachable_host
from services.common.telemetry.metrics_server import MetricsServer
from services.common.telemetry.tracing import open_tracer
from services.http.api.bodies import Bodies
from services.http.api.health import GatewayHealth
from services.http.api.names import Names
from services.http.api.streams import Streams
from services.http.api.upstream import Upstream
from services.http.app import build_app
from services.http.door import Door
from services.http.metrics import HttpMetrics
from services.http.server import HttpServer
from services.http.settings import HttpSettings

log = logging.getLogger("csm.http")


class HttpStage:
    """The running stage. It is stateless: the data of a request lives as long as its connection."""

    def __init__(self, settings: HttpSettings) -> None:
        """Raises OSError for a taken port or a TLS file that cannot be used."""
        self.settings = settings
        streams = Streams(settings.max_streams)
        self.door = Door(
            settings,
            Upstream(settings),
            GatewayHealth(settings.gateway_health_target),
            Names(settings),
            streams,
            Bodies(settings.max_bodies_bytes),
            HttpMetrics(lambda: streams.count),
        )
        self._tracer = open_tracer(settings, "http")
        metrics = self.door.metrics
        self.server = HttpServer(
            build_app(self.door, self._tracer),
            settings,
            self.door.bodies,
            metrics.file_reloads("tls_certificate"),
            metrics.certificate_ends("tls_certificate"),
            metrics.background,
        )
        if settings.gateway_tls_certificate is not None:
            own = settings.gateway_tls_certificate
            end_s = read_end_s("--gateway-tls-certificate", own, own.read_bytes())  # read once, as the channel does
            metrics.certificate_ends("gateway_tls_certificate")(lambda: end_s)
        self.metrics_port = -1
        self._metrics_server: MetricsServer | None = None

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        scheme = "http" if self.settings.tls_certificate is None else "https"
        return f"{scheme}://{host_and_port(reachable_host(self.settings.host), self.server.port)}"

    async def start(self) -> None:
        await self.server.start()
        if self.settings.metrics_port >= 0:
            registry = self.door.metrics.registry
            self._metrics_server = MetricsServer.start(self.settings.host, self.settings.metrics_port, registry)
            self.metrics_port = self._metrics_server.port
        log.info(
            "listening on %s: http port %d, metrics port %d", self.settings.host, self.server.port, self.metrics_port
        )

    async def stop(self) -> None:
        """Refuses new syntheses, gives running ones --drain-seconds, then stops everything."""
        await self.door.streams.drain(self.settings.drain_seconds)
        await self.server.stop()
        if self._tracer is not None:
            await self._tracer.stop()
        if self._metrics_server is not None:
            await self._metrics_server.stop()
        await self.door.upstream.close()
        await self.door.health.close()


async def start_http(settings: HttpSettings) -> HttpStage:
    """Starts the stage. Returns when it listens; its readiness follows the gateway's."""
    try:
        stage = HttpStage(settings)
    except TlsFileError as error:  # of the client, which knows no setting
        raise OSError(f"--gateway-tls-ca, --gateway-tls-certificate and --gateway-tls-key: {error}") from None
    try:
        await stage.start()
    except BaseException:
        await stage.stop()
        raise
    return stage
