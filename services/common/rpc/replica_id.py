"""The id of a replica, in the trailing metadata of its calls: gRPC for Python hides which replica has answered."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import grpc

KEY = "csm-replica"

Trailers = Iterable[tuple[str, str | bytes]]  # such as grpc.aio.Metadata


def new() -> str:
    return uuid.uuid4().hex


def add(context: grpc.aio.ServicerContext[Any, Any], replica: str) -> None:
    """Adds the id to the trailing metadata that the handler has set."""
    context.set_trailing_metadata((*(context.trailing_metadata() or ()), (KEY, replica)))


def of(trailers: Trailers | None) -> str:
    """The id in a call's trailing metadata; "" without one: of an older version, or when no replica has answered."""
    return next((str(value) for key, value in trailers or () if key == KEY), "")
