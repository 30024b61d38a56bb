"""The ASGI application: routes, errors in OpenAI's format, CORS, and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from csm_client import CsmClientError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.telemetry.spans import Tracer
from services.http.api.disconnect import CallerGoneError
from services.http.api.errors import ApiError, failed, from_client_error, from_validation
from services.http.api.front import REASON, REQUEST_ID, Front
from services.http.door import Door
from services.http.endpoints import catalog, page, probes, speech, voices, watermark, websocket
from services.http.settings import HttpSettings, comma_separated

VERSION = "1"  # of this API
_EXPOSED = [
    REQUEST_ID,
    "x-voice",
    "x-model-version",
    "x-seed",
    "x-sample-rate",
    "x-ignored-parameters",
    "retry-after",
    "retry-after-ms",
]
_NO_JSON = "The body is no JSON in UTF-8, is nested too deeply, or has a number of too many digits."
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def routes_of(settings: HttpSettings) -> list[BaseRoute]:
    """The routes of all endpoints. Raises OSError for files of the page that cannot be read."""
    routers = [speech.router, catalog.router, voices.router, watermark.router, websocket.router, probes.router]
    if settings.metrics_at_api_port:
        routers.append(probes.metrics_router)
    if settings.page:
        page.files()
        routers.append(page.router)
    return [route for router in routers for route in router.routes]


def build_app(door: Door, tracer: Tracer | None) -> ASGIApp:
    """The application of one door. tracer: exports spans of requests, whose trace the gateway continues"""
    app = FastAPI(
        title="CSM speech",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        routes=routes_of(door.settings),
        redirect_slashes=False,  # a redirect would go to whatever host and scheme the request seems to have
        telemetry={
            "auto_configure": False,
            "tracing": tracer is not None,
            "tracer_provider": None if tracer is None else tracer.provider,
            "metrics": False,
            "logs": False,
        },
    )
    app.state.door = door
    app.add_exception_handler(ApiError, _answer)
    app.add_exception_handler(CsmClientError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(Exception, _answer_failure)
    app.router.default = _not_found
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way to change it
    front = Front(app, door.settings, door.metrics, door.bodies, frozenset({watermark.PATH}), door.streams.draining)
    if origins := comma_separated(door.settings.cors_origins):
        return CORSMiddleware(  # around all, so that pages may read errors of the front too
            front,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )
    return front


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """404 for WebSockets too, which Starlette would refuse with 403 and no message."""
    raise HTTPException(404)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException) and isinstance(error.__cause__, ApiError | CallerGoneError):
        error = error.__cause__  # raised while FastAPI read the body
    answer = as_api_error(error)
    request.scope[REASON] = answer.code
    headers = answer.headers
    if isinstance(error, HTTPException) and error.headers:
        headers |= error.headers  # Allow, with a 405
    return JSONResponse(answer.body, answer.status, headers)


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    """The answer to an unexpected error. Starlette raises it again, and the front logs it."""
    answer = failed()
    request.scope[REASON] = answer.code
    return JSONResponse(answer.body, answer.status)


def as_api_error(error: Exception) -> ApiError:
    """The answer to an error that a handler raised."""
    match error:
        case ApiError():
            return error
        case CsmClientError():
            return from_client_error(error)
        case RequestValidationError():
            return from_validation(error.errors())
        case HTTPException(status_code=404):
            return ApiError(404, "The server has nothing at this address.", code="not_found")
        case HTTPException(status_code=405):
            return ApiError(405, "This address does not take this method.", code="method_not_allowed")
        case HTTPException(status_code=400, detail="There was an error parsing the body"):  # FastAPI's
            return ApiError(400, _NO_JSON, code="invalid_value")
        case HTTPException():
            return ApiError(error.status_code, str(error.detail), code="bad_request")
    raise error


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with this API's errors instead of FastAPI's."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Error"] = _ERROR
        schema = {"$ref": "#/components/schemas/Error"}
        error = {"description": "An error", "content": {"application/json": {"schema": schema}}}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                operation["responses"].pop("422", None)
                if path.startswith("/v1/"):
                    operation["responses"]["default"] = error
                    operation["security"] = [{"bearer": []}, {}]
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = document
    return app.openapi_schema
