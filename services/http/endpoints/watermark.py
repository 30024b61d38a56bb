"""POST /v1/audio/watermark: whether a recording was made here, and which stretches of it."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from csm.v1 import watermark_pb2
from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from services.http.api.disconnect import until_disconnect
from services.http.api.errors import ApiError, unavailable, wrong_field
from services.http.door import door_of

log = logging.getLogger("csm.http")

PATH = "/v1/audio/watermark"
IN_MEMORY_BYTES = 2**20  # of a recording; the rest of a larger one is in a file without a name

_BINARY = {"type": "string", "format": "binary"}


router = APIRouter()


@router.post(
    PATH,
    summary="Looks for the server's watermarks in a recording",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"file": _BINARY}, "required": ["file"]}
                },
                "audio/*": {"schema": _BINARY},
                "application/octet-stream": {"schema": _BINARY},
            },
        }
    },
)
async def detect_watermark(request: Request) -> dict[str, Any]:
    door = door_of(request)
    client = door.upstream.client_of(request.headers)

    async def search(file: BinaryIO) -> dict[str, Any]:
        return found(await until_disconnect(request.receive, client.find_watermarks(file)))

    with door.streams.one_more(), _room_on_the_disk():
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            async with request.form(max_files=1, max_fields=4) as form:
                upload = form.get("file")
                if not isinstance(upload, UploadFile):
                    raise wrong_field("file", "is missing; it must be a recording.", code="missing_required_parameter")
                return await search(upload.file)
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
            async for piece in request.stream():
                file.write(piece)
            if not file.tell():
                raise ApiError(400, "The body is empty; it must be a recording.", param="file", code="invalid_value")
            file.seek(0)
            return await search(_binary(file))


@contextmanager
def _room_on_the_disk() -> Iterator[None]:
    """Raises ApiError when the disk is full. Other replicas may have room."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.error("no room for a recording in %s: %s", tempfile.gettempdir(), error.strerror)
        raise unavailable("This server has no room for the recording now; call again.", "disk_full") from None


def _binary(file: tempfile.SpooledTemporaryFile[bytes]) -> BinaryIO:
    return file  # type: ignore[return-value]  # it has `read`, and is no BinaryIO by name


def found(answer: watermark_pb2.StreamDetectWatermarkResponse) -> dict[str, Any]:
    """The answer in JSON; offsets in seconds."""
    return {
        "object": "audio.watermark",
        "detected": answer.detected,
        "confidence": answer.confidence,
        "key_id": answer.key_id or None,
        "stretches": [
            {
                "start": stretch.start_offset.ToNanoseconds() / 1e9,
                "end": stretch.end_offset.ToNanoseconds() / 1e9,
                "key_id": stretch.key_id,
                "confidence": stretch.confidence,
            }
            for stretch in answer.stretches
        ],
    }
