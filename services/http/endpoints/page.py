"""GET / and GET /page/NAME: a page to listen and to try. It is static, and calls the door as any client does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from services.http.api.errors import ApiError

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"
CONTENT_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Mapping[str, str] = {
    # Nothing from another host, nothing inline; blob: is a sound that the page itself has made.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # asked for each time, and answered with 304 while it is the same
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: Mapping[str, str]

    def answer(self, request: Request) -> Response:
        if self.headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers)


router = APIRouter()


@router.get("/", summary="A page to listen and to try", response_class=HTMLResponse)
async def index(request: Request) -> Response:
    return files()[INDEX].answer(request)


@router.get("/page/{name}", summary="A file of the page", response_class=Response)
async def file(name: str, request: Request) -> Response:
    if name not in files():
        raise ApiError(404, f"The page has no file '{name}'.", code="not_found")
    return files()[name].answer(request)


@cache
def files() -> Mapping[str, _File]:
    """The files of the page, which are read once. Raises OSError for one that cannot be read."""
    return {path.name: _read(path) for path in FOLDER.iterdir() if path.suffix in CONTENT_TYPES}


def _read(path: Path) -> _File:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, {**HEADERS, "content-type": CONTENT_TYPES[path.suffix], "etag": etag})
