"""What callers get wrong is told, and does not pass for something else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client import AsyncClient, Client, DeadlineExceededError, IncompleteAudioError

from services.common.rpc.calls import Context
from tests.clients.python.conftest import BackgroundServer
from tests.support.fake_deployment import FakeDeployment


class EndlessList(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Has another page of voices behind each, and takes a moment for it."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}  # of the last call

    async def ListVoices(self, request: tts_pb2.ListVoicesRequest, context: Context) -> tts_pb2.ListVoicesResponse:
        self.metadata = dict(context.invocation_metadata() or ())
        await asyncio.sleep(0.1)
        return tts_pb2.ListVoicesResponse(next_page_token="another")


@pytest.fixture
async def endless() -> AsyncIterator[tuple[EndlessList, str]]:
    server, service = grpc.aio.server(), EndlessList()
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_the_deadline_is_that_of_the_whole_list_of_voices(endless: tuple[EndlessList, str], kind: Any) -> None:
    service, target = endless
    client = kind(target, timeout_s=0.5, metadata=(("x-who", "ada"),))
    with pytest.raises(DeadlineExceededError):
        await (client.list_voices() if kind is AsyncClient else asyncio.to_thread(client.list_voices))
    assert service.metadata["x-who"] == "ada"
    await asyncio.gather(*filter(None, [client.close()]))


@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_an_option_of_the_connection_that_there_is_not_is_refused(kind: Any) -> None:
    """A connection in plaintext would come about where one over TLS was meant."""
    with pytest.raises(TypeError, match=r"There is no option 'tls_root'; the options are .*tls_ca"):
        kind("127.0.0.1:1", tls_root="ca.pem")


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("timeout_s", [math.inf, math.nan, 1e300])
async def test_a_deadline_that_grpc_cannot_hold_is_refused(kind: Any, timeout_s: float) -> None:
    """Calls would end at once."""
    with pytest.raises(ValueError, match=f"timeout_s is {timeout_s}".replace("+", r"\+")):
        kind("127.0.0.1:1", timeout_s=timeout_s)


def test_the_blocking_client_refuses_asynchronous_pieces() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "Hello."

    with Client("127.0.0.1:1") as client, pytest.raises(TypeError, match="use AsyncClient"):
        client.stream_synthesize_text(pieces())  # type: ignore[arg-type]


async def test_a_stream_of_which_a_part_was_read_is_not_the_whole_utterance(
    deployment: FakeDeployment, client: AsyncClient
) -> None:
    async with client.stream_synthesize("Hello.") as stream:
        async for _ in stream:
            break
        with pytest.raises(IncompleteAudioError, match="read before"):
            await stream.read_all()


def test_a_stream_is_no_whole_utterance_a_second_time(server: BackgroundServer) -> None:
    with Client(server.target, timeout_s=20) as client:
        stream = client.stream_synthesize("Hello.")
        stream.read_all()
        with pytest.raises(IncompleteAudioError, match="read before"):
            stream.read_all()
