"""The parts that all endpoints share."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from services.http.api.bodies import Bodies
from services.http.api.health import GatewayHealth
from services.http.api.names import Names
from services.http.api.streams import Streams
from services.http.api.upstream import Upstream
from services.http.metrics import HttpMetrics
from services.http.settings import HttpSettings


@dataclass(frozen=True, slots=True)
class Door:
    """None of these knows a request."""

    settings: HttpSettings
    upstream: Upstream
    health: GatewayHealth
    names: Names
    streams: Streams
    bodies: Bodies
    metrics: HttpMetrics


def door_of(connection: HTTPConnection) -> Door:
    """The door whose application answers a request or a WebSocket."""
    door: Door = connection.app.state.door
    return door
