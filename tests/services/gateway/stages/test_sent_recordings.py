"""Recordings that the gateway sends to the codec: in pieces, after `started`; and how that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from prometheus_client import CollectorRegistry

from csm_bundle.errors import CodecBusyError, InvalidRequestError
from services.common.rpc.server import StageServer, StageService
from services.common.rpc.status import StatusError
from services.common.settings import StageSettings
from services.gateway.audio.recording import PIECE_BYTES, Recording
from services.gateway.metrics import GatewayMetrics
from services.gateway.stages.backends import GrpcCodec
from services.gateway.stages.calls import MOST_LOSSES
from services.gateway.stages.errors import StageError
from services.gateway.stages.reloading_channel import ReloadingChannel
from tests.support.fake_deployment import failure, fake_deployment
from tests.support.fake_stages import FakeCodec, fake_frames
from tests.support.network.tcp_relay import TcpRelay

Code = grpc.StatusCode
S16 = codec_pb2.SAMPLE_FORMAT_S16LE
CONFIG = codec_pb2.StreamEncodeConfig(sample_format=S16, sample_rate_hertz=192_000)
SAMPLES = bytes(range(256)) * 4096 + b"odd"  # several pieces


class OldCodec(FakeCodec):
    """A codec of a version that takes recordings only in one message."""

    StreamEncode = codec_pb2_grpc.CodecServiceServicer.StreamEncode  # type: ignore[assignment]


@asynccontextmanager
async def client(codec: object, silence_s: float = 0.0) -> AsyncIterator[tuple[GrpcCodec, StageServer, TcpRelay]]:
    """The gateway's client, the codec's server, and the relay between the two."""
    add = codec_pb2_grpc.add_CodecServiceServicer_to_server
    services = [StageService(add, codec, "csm.codec.v1.CodecService")] if codec is not None else []
    server = StageServer(StageSettings(host="127.0.0.1"), services, for_gateways=True)
    await server.start()
    relay = TcpRelay(server.port)
    await relay.start()
    channel = ReloadingChannel(f"127.0.0.1:{relay.port}", codec_pb2_grpc.CodecServiceStub, None, silence_s=silence_s)
    try:
        metrics = GatewayMetrics(CollectorRegistry())
        yield GrpcCodec(channel, metrics=metrics, max_full=2, silence_s=3.0), server, relay
    finally:
        await channel.close()
        await server.drain(0)
        await relay.stop()


def pieces() -> AsyncGenerator[bytes, None]:
    return Recording(SAMPLES, S16, 192_000).pieces()


async def refusal(codec: GrpcCodec, samples: AsyncGenerator[bytes, None] | None = None) -> StatusError:
    with pytest.raises(StageError) as failed:
        await codec.encode(CONFIG, samples or pieces(), 60)
    return failed.value


async def test_a_recording_arrives_as_it_was_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    serialize = codec_pb2.StreamEncodeRequest.SerializeToString

    class Codec(FakeCodec):
        async def StreamEncode(self, requests: Any, context: Any) -> None:
            async def counted() -> AsyncIterator[Any]:
                async for request in requests:
                    sizes.append(len(serialize(request)))
                    yield request

            await super().StreamEncode(counted(), context)

    codec = Codec()
    async with client(codec) as (sends, _, _):
        assert (await sends.encode(CONFIG, pieces(), 60)).codes == fake_frames(0, 3)
    (encoded,) = codec.encoded
    assert encoded.samples == SAMPLES
    assert (encoded.sample_format, encoded.sample_rate_hertz) == (CONFIG.sample_format, CONFIG.sample_rate_hertz)
    assert len(sizes) == 1 + 1 + len(SAMPLES) // PIECE_BYTES and max(sizes) < PIECE_BYTES + 16


async def test_a_call_that_was_answered_is_not_cancelled() -> None:
    ended: list[str] = []

    class Codec(FakeCodec):
        async def StreamEncode(self, requests: Any, context: Any) -> None:
            try:
                await super().StreamEncode(requests, context)
                await asyncio.sleep(0.1)  # until the call ends
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            ended.append("OK")

    async with client(Codec()) as (sends, _, _):
        await sends.encode(CONFIG, pieces(), 60)
        assert ended == ["OK"]


async def test_no_sample_is_taken_before_the_codec_has_started() -> None:
    codec = FakeCodec()
    codec.refusal = CodecBusyError("17 recordings are being worked on.")
    asked: list[str] = []

    async def samples() -> AsyncGenerator[bytes, None]:
        asked.append("asked")
        yield b""

    async with client(codec) as (sends, _, _):
        error = await refusal(sends, samples())
    assert (error.code, error.reason, asked) == (Code.UNAVAILABLE, "QUEUE_FULL", [])


@pytest.mark.parametrize("num_losses", [MOST_LOSSES, MOST_LOSSES + 1])
async def test_a_codec_lost_before_its_start_is_replaced_by_another(num_losses: int) -> None:
    class Codec(FakeCodec):
        num_calls = 0

        async def StreamEncode(self, requests: Any, context: Any) -> None:
            self.num_calls += 1
            if self.num_calls <= num_losses:
                await context.abort(Code.UNAVAILABLE, "Socket closed")
            await super().StreamEncode(requests, context)

    codec = Codec()
    async with client(codec) as (sends, _, _):
        if num_losses > MOST_LOSSES:
            assert (await refusal(sends)).reason == "CODEC_UNREACHABLE"
        else:
            assert (await sends.encode(CONFIG, pieces(), 60)).codes == fake_frames(0, 3)
            assert [encoded.samples for encoded in codec.encoded] == [SAMPLES]
    assert codec.num_calls == MOST_LOSSES + 1


async def test_a_refusal_in_the_middle_is_returned_and_stops_the_transfer() -> None:
    class Codec(FakeCodec):
        async def _receive(self, requests: Any, context: Any, started: Any) -> Any:
            await anext(requests)
            await context.write(started)
            await anext(requests)
            raise InvalidRequestError("samples", "last more than 1 s, which is the most allowed")

    closed: list[str] = []
    async with client(Codec()) as (sends, server, _):

        async def endless() -> AsyncGenerator[bytes, None]:
            try:
                yield bytes(1000)
                while (
                    server._calls is None or server._calls.num_running
                ):  # to the codec this looks like a caller that waits for the answer
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                while True:
                    yield bytes(1000)
            finally:
                closed.append("closed")

        error = await refusal(sends, endless())
    assert error.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in error.field_violations] == ["samples"]
    assert closed == ["closed"]


async def test_a_codec_that_stops_in_the_middle_is_lost() -> None:
    async with client(FakeCodec()) as (sends, server, _):

        async def samples() -> AsyncGenerator[bytes, None]:
            yield bytes(1000)
            await server.drain(0)
            while True:
                yield bytes(1000)

        error = await refusal(sends, samples())
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_UNREACHABLE")


async def test_a_codec_that_freezes_is_lost_while_it_takes_samples_and_while_it_encodes() -> None:
    class Codec(FakeCodec):
        async def encode(self, recording: codec_pb2.EncodeRequest) -> codec_pb2.EncodeResponse:
            freezes.pop()()
            return await super().encode(recording)

    freezes: list[Callable[[], None]] = []
    async with client(Codec(), 1.0) as (sends, _, relay), client(FakeCodec(), 1.0) as (sends_on, _, other):
        freezes.append(partial(relay.set_black_hole, True))

        async def samples() -> AsyncGenerator[bytes, None]:
            yield bytes(1000)
            other.set_black_hole(True)
            while True:
                yield bytes(PIECE_BYTES)

        for error in await asyncio.gather(refusal(sends), refusal(sends_on, samples())):
            assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_UNREACHABLE")


@pytest.mark.parametrize("codec", [OldCodec(), None], ids=["without the method", "without the service"])
async def test_a_codec_of_an_older_version_is_named(codec: object) -> None:
    async with client(codec) as (sends, _, _):
        error = await refusal(sends)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "CODEC_TOO_OLD")


async def test_a_codec_that_ends_without_an_answer_broke_the_protocol() -> None:
    class Codec(FakeCodec):
        async def StreamEncode(self, requests: Any, context: Any) -> None:
            await self._receive(
                requests, context, codec_pb2.StreamEncodeResponse(started=codec_pb2.StreamEncodeStarted())
            )

    async with client(Codec()) as (sends, _, _):
        error = await refusal(sends)
    assert error.code is Code.INTERNAL and "Encode" not in error.message


@pytest.mark.parametrize("corrupted", ["started", "complete"])
async def test_a_corrupted_answer_to_a_recording_is_a_loss_in_public_terms(
    stream_request: tts_pb2.StreamSynthesizeRequest, monkeypatch: pytest.MonkeyPatch, corrupted: str
) -> None:
    read = grpc.aio.StreamStreamCall.read

    async def sometimes_none(self: Any) -> Any:
        message = await read(self)
        is_it = isinstance(message, codec_pb2.StreamEncodeResponse) and message.HasField(corrupted)
        return None if is_it else message  # None is gRPC's result for bytes that are no message

    recording = stream_request.context.turns.add(text="Before.").audio.recording
    recording.audio_content = bytes(1000)
    recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    recording.audio_format.sample_rate_hertz = 24_000
    async with fake_deployment() as deployment, grpc.aio.insecure_channel(deployment.target) as channel:
        await deployment.gateway.wait_ready()
        monkeypatch.setattr("grpc.aio._call.StreamStreamCall.read", sometimes_none)
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        error = await failure(stub.StreamSynthesize(stream_request))
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_UNREACHABLE")
        assert deployment.engine.calls == []


async def test_a_partly_sent_recording_is_not_sent_to_another_codec() -> None:
    class Cut(FakeCodec):
        num_begun = 0  # a second attempt would encode the rest of the recording as the whole

        async def StreamEncode(self, requests: AsyncIterator[codec_pb2.StreamEncodeRequest], context: Any) -> None:
            self.num_begun += 1
            await anext(requests)
            await context.write(codec_pb2.StreamEncodeResponse(started=codec_pb2.StreamEncodeStarted()))
            await anext(requests)
            await context.abort(Code.UNAVAILABLE, "lost")

    async with client(fake := Cut()) as (codec, _, _):
        assert (await refusal(codec)).reason == "CODEC_UNREACHABLE" and fake.num_begun == 1
