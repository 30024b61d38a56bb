"""The id of a replica, in the metadata of its calls: gRPC for Python hides which replica has answered.

It is in the trailing metadata of every call. That of a stream comes late, so it is in its initial metadata too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import grpc

KEY = "csm-replica"

Metadata = Iterable[tuple[str, str | bytes]]  # such as grpc.aio.Metadata


def new() -> str:
    return uuid.uuid4().hex


async def send(context: grpc.aio.ServicerContext[Any, Any], replica: str) -> None:
    """Sends the initial metadata, with the id."""
    await context.send_initial_metadata(((KEY, replica),))


def add(context: grpc.aio.ServicerContext[Any, Any], replica: str) -> None:
    """Adds the id to the trailing metadata that the handler has set."""
    context.set_trailing_metadata((*(context.trailing_metadata() or ()), (KEY, replica)))


def of(metadata: Metadata | None) -> str:
    """The id in a call's metadata; "" without one: of an older version, or when no replica has answered."""
    return next((str(value) for key, value in metadata or () if key == KEY), "")
