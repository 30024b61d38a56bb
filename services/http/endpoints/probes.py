"""GET /healthz, GET /readyz and GET /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from services.http.door import door_of

router = APIRouter()
metrics_router = APIRouter()


@router.get("/healthz", summary="Whether this process answers", response_class=PlainTextResponse)
async def healthz() -> str:
    return "ok\n"


@router.get(
    "/readyz",
    summary="Whether requests would be answered: the gateway is ready, and this process is not stopping",
    response_class=PlainTextResponse,
    responses={503: {"description": "They would not"}},
)
async def readyz(request: Request) -> PlainTextResponse:
    door = door_of(request)
    if door.streams.draining.is_set():
        return PlainTextResponse("draining\n", 503)
    if not await door.health.is_ready() or door.upstream.channels.finds_no_replica():
        return PlainTextResponse("the gateway is not ready\n", 503)
    return PlainTextResponse("ok\n")


@metrics_router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    return Response(generate_latest(door_of(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
