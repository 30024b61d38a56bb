"""What callers get wrong is told, and does not pass for something else."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client import AsyncClient, Client, ClientClosedError, DeadlineExceededError, IncompleteAudioError, Turn
from csm_client.requests import create_voice_request, stream_request, unary_request

from services.common.rpc.calls import Context
from tests.clients.python.conftest import BackgroundServer
from tests.support.fake_deployment import FakeDeployment
from tests.support.network.tts_server import tts_server


class EndlessList(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Has another page of voices behind each, and takes a moment for it. Of a language it has one page."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}  # of the last call

    async def ListVoices(self, request: tts_pb2.ListVoicesRequest, context: Context) -> tts_pb2.ListVoicesResponse:
        self.metadata = dict(context.invocation_metadata() or ())
        await asyncio.sleep(0.1)
        return tts_pb2.ListVoicesResponse(next_page_token="" if request.language_code else "another")


@pytest.fixture
async def endless() -> AsyncIterator[tuple[EndlessList, str]]:
    service = EndlessList()
    async with tts_server(service) as port:
        yield service, f"127.0.0.1:{port}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_one_deadline_covers_all_pages_of_voices(endless: tuple[EndlessList, str], kind: Any) -> None:
    client = kind(endless[1], timeout_s=0.5)
    with pytest.raises(DeadlineExceededError):
        await (client.list_voices() if kind is AsyncClient else asyncio.to_thread(client.list_voices))
    await asyncio.gather(*filter(None, [client.close()]))


@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_listing_voices_sends_the_metadata(endless: tuple[EndlessList, str], kind: Any) -> None:
    service, target = endless
    client = kind(target, timeout_s=60, metadata=(("x-who", "ada"),))
    await (client.list_voices("en") if kind is AsyncClient else asyncio.to_thread(client.list_voices, "en"))
    assert service.metadata["x-who"] == "ada"
    await asyncio.gather(*filter(None, [client.close()]))


@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_an_unknown_connection_option_is_refused(kind: Any) -> None:
    """A connection in plaintext would come about where one over TLS was meant."""
    with pytest.raises(TypeError, match=r"There is no option 'tls_root'; the options are .*tls_ca"):
        kind("127.0.0.1:1", tls_root="ca.pem")


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("timeout_s", [math.inf, math.nan, 1e300])
async def test_a_deadline_that_grpc_cannot_hold_is_refused(kind: Any, timeout_s: float) -> None:
    """Calls would end at once."""
    with pytest.raises(ValueError, match=f"timeout_s is {timeout_s}".replace("+", r"\+")):
        kind("127.0.0.1:1", timeout_s=timeout_s)


CALLS = [
    lambda client: client.synthesize("Hello."),
    lambda client: client.stream_synthesize("Hello."),
    lambda client: client.stream_synthesize_text(["Hello."]),
    lambda client: client.server_info(),
    lambda client: client.list_voices(),
    lambda client: client.get_voice("ann"),
    lambda client: client.delete_voice("ann"),
    lambda client: client.create_voice("ann", speaker=0),
    lambda client: client.detect_watermark(b"RIFF"),
    lambda client: client.find_watermarks(io.BytesIO(b"RIFF")),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__code__.co_names[0])
async def test_a_call_of_a_closed_client_raises_client_closed(call: Any) -> None:
    blocking, client = Client("127.0.0.1:1"), AsyncClient("127.0.0.1:1")
    for _ in range(2):
        blocking.close()
        await client.close()
    with pytest.raises(ClientClosedError, match="The client is closed"):
        call(blocking)
    with pytest.raises(ClientClosedError, match="The client is closed"):
        await call(client)


def test_the_blocking_client_refuses_asynchronous_pieces() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "Hello."

    with Client("127.0.0.1:1") as client, pytest.raises(TypeError, match="use AsyncClient"):
        client.stream_synthesize_text(pieces())  # type: ignore[arg-type]


async def test_collecting_a_partly_read_stream_is_refused(deployment: FakeDeployment, client: AsyncClient) -> None:
    async with client.stream_synthesize("Hello.") as stream:
        async for _ in stream:
            break
        with pytest.raises(IncompleteAudioError, match="read before"):
            await stream.read_all()


def test_collecting_a_stream_twice_is_refused(server: BackgroundServer) -> None:
    with Client(server.target, timeout_s=20) as client:
        stream = client.stream_synthesize("Hello.")
        stream.read_all()
        with pytest.raises(IncompleteAudioError, match="read before"):
            stream.read_all()


@pytest.mark.parametrize("make", [unary_request, stream_request, create_voice_request])
def test_an_unknown_option_is_refused(make: Any) -> None:
    """It would have no effect: a wrong name is easily written."""
    with pytest.raises(TypeError, match=r"There is no option 'sed'; the options are .*seed"):
        make("Hello.", {"sed": 7})


def test_chunk_seconds_is_refused_for_a_unary_request() -> None:
    assert stream_request("Hello.", {"chunk_seconds": 0.5}).stream_config.chunk_duration.nanos == 500_000_000
    with pytest.raises(TypeError, match="There is no option 'chunk_seconds'"):
        unary_request("Hello.", {"chunk_seconds": 0.5})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "ogg"}, "encoding is 'ogg': it must be one of pcm, wav, opus, "),
        ({"seed": 2**63}, "seed is 9223372036854775808: "),
        ({"seed": "7"}, "seed is of type str: "),
        ({"speaker": 2**40}, "speaker is 1099511627776: "),
        ({"max_seconds": float("nan")}, "max_seconds is nan: "),
        ({"max_seconds": float("inf")}, "max_seconds is inf: "),
        ({"temperature": None}, "temperature is None: "),
        ({"temperature": 1e39}, "temperature is 1e+39: it must be 0 to 2."),
        ({"voice": "\ud800"}, "voice is of type str: "),
        ({"context": 7}, "context is 7: "),
        ({"context": [Turn(0, "Hi.", wav=b"RIFF", codes=b"CSMS")]}, "context is of type list: A recording and codes "),
        ({"context": [{"speaker": 0, "text": "Hi."}]}, "context is of type list: "),
    ],
)
def test_a_value_that_the_message_cannot_hold_is_named(options: Any, words: str) -> None:
    for make in (unary_request, stream_request):
        with pytest.raises((TypeError, ValueError)) as raised:
            make("Hello.", options)
        assert str(raised.value).startswith(words)


def test_a_text_with_a_surrogate_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="text is of type str: ") as raised:
        unary_request("secret \ud800", {})
    assert "secret" not in str(raised.value)
