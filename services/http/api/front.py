"""The ASGI middleware of all requests: request id, limits of the body, log line and metrics. It knows no endpoint.

A broken stream is not completed, so that the server closes its connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from services.common.rpc.calls import is_uuid
from services.common.telemetry import logs
from services.http.api.bodies import Bodies, Body
from services.http.api.disconnect import CallerGoneError
from services.http.api.errors import LEFT, VANISHED, ApiError, failed, unavailable
from services.http.api.origins import Origins
from services.http.api.streams import about_to_stop
from services.http.connections import SPARE
from services.http.cuts import LOST
from services.http.metrics import HttpMetrics
from services.http.settings import HttpSettings

log = logging.getLogger("csm.http")

REQUEST_ID = "x-request-id"
UPLOADS = 16  # budget for uploads, in uploads of the largest size; they are on the disk
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # that metrics and logs name
ASKED_METHOD = "csm.method"  # scope key: the request's method, if it was replaced
BROKEN = "csm.broken"  # scope key: the code of the error that broke the stream
REASON = "csm.reason"  # scope key: the code of the error that was the answer, for the log
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})  # answered even above the limit of connections


class Front:
    """Wraps an ASGI application."""

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        metrics: HttpMetrics,
        bodies: Bodies,
        large_paths: frozenset[str],
        draining: asyncio.Event,
    ) -> None:
        """large_paths: routes whose body is an upload, limited by --max-upload-bytes instead of --max-body-bytes.
        draining: once set, connections close after their answer, so that clients reconnect to another replica.
        """
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._large_paths = large_paths
        self._draining = draining
        self._origins = Origins(settings)
        self._bodies = bodies
        self._uploads = Bodies(UPLOADS * settings.max_upload_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if scope.get("method") == "HEAD":  # run as GET; the server drops the body
            scope = {**scope, "method": "GET", ASKED_METHOD: "HEAD"}
        request = _Request(scope, send, self._metrics, self._draining)
        body = self._body(scope, receive)
        try:
            if SPARE in scope and scope["path"] not in PROBES:
                raise unavailable("As many connections are open here as may be at once.", "too_many_connections")
            self._origins.check_host(request.headers)
            self._origins.check_page(request.headers, request.method)
            if scope["type"] == "http":
                body.check_headers(request.headers)
                await self._app(scope, body.receive, request.send)
            else:
                await self._app(scope, receive, request.send)
        except CallerGoneError:
            reason = VANISHED if LOST in scope["state"] else LEFT
            request.status, scope[REASON] = str(reason.status), reason.code
        except ApiError as error:
            await request.answer(error, receive)
        except asyncio.CancelledError:  # the server stops
            if request.status:
                scope[BROKEN] = about_to_stop().code
            await request.answer(about_to_stop(), receive)
        except Exception:
            log.exception("%s %s failed", request.method, scope["path"])
            await request.answer(failed(), receive)
        finally:
            body.end()
            request.end()

    def _body(self, scope: Scope, receive: Receive) -> Body:
        late_s = self._settings.body_timeout_seconds
        if scope["path"] in self._large_paths:
            return Body(receive, self._settings.max_upload_bytes, late_s, self._uploads, is_json=False)
        return Body(receive, self._settings.largest_body_bytes, late_s, self._bodies, is_json=True)


class _Request:
    """One request: its id, answer, log line and metrics."""

    def __init__(self, scope: Scope, send: Send, metrics: HttpMetrics, draining: asyncio.Event) -> None:
        self.headers = Headers(scope=scope)
        self.method = _method(scope)
        self.status = ""
        self._scope, self._send, self._metrics, self._draining = scope, send, metrics, draining
        self._started_s = time.monotonic()
        asked = self.headers.get(REQUEST_ID, "")
        self.id = asked if is_uuid(asked) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = self.id
        scope["state"]["started_s"] = self._started_s
        logs.request_id.set(self.id)
        self._fields = logs.begin_call_fields()

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            self.status = str(message.get("status", 101))
            MutableHeaders(scope=message)[REQUEST_ID] = self.id
            if self._draining.is_set() and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
        await self._send(message)

    async def answer(self, error: ApiError, receive: Receive) -> None:
        """Answers with an error, unless the answer has begun."""
        if self.status:
            return
        self._scope[REASON] = error.code
        response = JSONResponse(error.body, error.status, error.headers)
        if self._scope["type"] == "http":
            await response(self._scope, receive, self.send)
        else:
            await WebSocket(self._scope, receive, self.send).send_denial_response(response)

    def end(self) -> None:
        seconds = time.monotonic() - self._started_s
        status = "broken" if BROKEN in self._scope else self.status or "none"
        route: Any = self._scope.get("route")
        path = getattr(route, "path", "unknown")
        self._metrics.requests.labels(path, self.method, status).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        fields: dict[str, logs.LogValue] = {
            "route": path,
            "method": self.method,
            "status": status,
            "reason": self._scope.get(BROKEN) or self._scope.get(REASON, ""),
            "duration_ms": round(seconds * 1000, 1),
        }
        log.info("request ended", extra=logs.fields_extra(fields | self._fields))


def _method(scope: Scope) -> str:
    """The method for metrics, which must be one of few values."""
    if scope["type"] == "websocket":
        return "WEBSOCKET"
    method: str = scope.get(ASKED_METHOD, scope["method"])
    return method if method in METHODS else "other"
