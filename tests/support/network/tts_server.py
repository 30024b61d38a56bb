"""A server of csm.v1.TextToSpeechService on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from csm.v1 import tts_pb2_grpc


@asynccontextmanager
async def tts_server(
    service: tts_pb2_grpc.TextToSpeechServiceServicer, *options: tuple[str, int]
) -> AsyncIterator[int]:
    """Yields the port on 127.0.0.1. options: of the gRPC server."""
    server = grpc.aio.server(options=options)
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
