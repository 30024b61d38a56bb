"""How often a small request is tried in all, by gRPC and by the client, when each of its servers is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client import AsyncClient
from csm_client.errors import UnavailableError

from services.common.rpc.calls import Context
from tests.support.network.tts_server import tts_server


class Lost(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Ends calls as gRPC ends those of a lost connection: without a reason."""

    def __init__(self) -> None:
        self.attempts = 0

    async def StreamSynthesize(self, request: tts_pb2.StreamSynthesizeRequest, context: Context) -> None:
        self.attempts += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


@pytest.fixture
async def lost() -> AsyncIterator[tuple[Lost, str]]:
    service = Lost()
    async with tts_server(service) as port:
        yield service, f"127.0.0.1:{port}"


@pytest.mark.slow
async def test_grpc_s_retry_throttling_bounds_all_attempts_of_a_client(lost: tuple[Lost, str]) -> None:
    """Four calls of three tries each would be twelve. gRPC stops after five failures that no success follows."""
    servicer, target = lost
    attempts = []
    async with AsyncClient(target, timeout_s=60) as client:
        for _ in range(2):
            before = servicer.attempts
            with pytest.raises(UnavailableError):
                await client.stream_synthesize("Hello.").read_all()
            attempts.append(servicer.attempts - before)
    assert attempts == [7, 4]
