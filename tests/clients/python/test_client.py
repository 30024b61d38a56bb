"""The synchronous client, over grpcio-testing's channel and against a real gateway."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import csm_client
import grpc
import grpc_testing
import pytest
from csm.v1 import tts_pb2, watermark_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2

TTS = tts_pb2.DESCRIPTOR.services_by_name["TextToSpeechService"]
WATERMARK = watermark_pb2.DESCRIPTOR.services_by_name["WatermarkService"]


class FakeServer:
    """The other end of a channel that has no network: the test answers by hand."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self.channel = grpc_testing.channel([TTS, WATERMARK], grpc_testing.strict_real_time())
        self.client = csm_client.Client("unused", channel=self.channel, resumes=0)  # this channel answers one call

    def call(self, action: Callable[[csm_client.Client], Any]) -> Future[Any]:
        return self._pool.submit(action, self.client)

    def take_unary(self, name: str, service: Any = TTS) -> Any:
        return self.channel.take_unary_unary(service.methods_by_name[name])

    def take_stream(self) -> Any:
        return self.channel.take_unary_stream(TTS.methods_by_name["StreamSynthesize"])


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with ThreadPoolExecutor(1) as pool:
        yield FakeServer(pool)


def answer(rpc: Any, response: Any) -> None:
    rpc.send_initial_metadata(())
    rpc.terminate(response, (), grpc.StatusCode.OK, "")


def header() -> tts_pb2.StreamSynthesizeResponse:
    audio_format = tts_pb2.AudioFormat(sample_rate_hertz=24_000)
    return tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(seed=5, audio_format=audio_format))


def audio(offset: int) -> tts_pb2.StreamSynthesizeResponse:
    chunk = tts_pb2.AudioChunk(audio_content=b"abcd", sample_offset=offset, sample_count=2)
    return tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)


def summary(count: int) -> tts_pb2.StreamSynthesizeResponse:
    stats = tts_pb2.SynthesisStats(sample_count=count)
    return tts_pb2.StreamSynthesizeResponse(summary=tts_pb2.SynthesisSummary(stats=stats))


def test_synthesize_sends_options_and_reads_the_answer(fake: FakeServer) -> None:
    running = fake.call(lambda client: client.synthesize("Hello.", seed=5, temperature=0.0))
    _, request, rpc = fake.take_unary("Synthesize")
    assert request.input.text == "Hello." and request.sampling_params.seed == 5
    assert request.sampling_params.HasField("temperature") and not request.sampling_params.HasField("top_k")
    assert request.audio_config.audio_encoding == tts_pb2.AUDIO_ENCODING_PCM
    audio_format = tts_pb2.AudioFormat(sample_rate_hertz=24_000)
    answer(rpc, tts_pb2.SynthesizeResponse(audio_content=b"abcd", audio_format=audio_format, seed=5, voice="ada"))
    speech = running.result(60)
    assert (speech.samples, speech.header.seed, speech.header.voice) == (b"abcd", 5, "ada")


def test_stream_is_read_to_its_summary(fake: FakeServer) -> None:
    running = fake.call(lambda client: client.stream_synthesize("Hello.").read_all())
    _, request, rpc = fake.take_stream()
    assert request.input.text == "Hello."
    rpc.send_initial_metadata(())
    for message in (header(), audio(0), audio(2), summary(4)):
        rpc.send_response(message)
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert running.result(60).samples == b"abcdabcd"


def test_stream_that_ends_without_summary_raises_although_the_status_is_ok(fake: FakeServer) -> None:
    running = fake.call(lambda client: client.stream_synthesize("Hello.").read_all())
    *_, rpc = fake.take_stream()
    rpc.send_initial_metadata(())
    rpc.send_response(header())
    rpc.send_response(audio(0))
    rpc.terminate((), grpc.StatusCode.OK, "")
    with pytest.raises(csm_client.IncompleteAudioError) as failed:
        running.result(60)
    assert failed.value.received_sample_count == 2


def test_stream_that_fails_after_audio_is_incomplete(fake: FakeServer) -> None:
    got_audio = threading.Event()

    def read(client: csm_client.Client) -> None:
        for _ in client.stream_synthesize("Hello."):
            got_audio.set()

    running = fake.call(read)
    *_, rpc = fake.take_stream()
    rpc.send_initial_metadata(())
    rpc.send_response(header())
    rpc.send_response(audio(0))
    assert got_audio.wait(60)  # this channel forgets what was not read when a call fails
    rpc.terminate((), grpc.StatusCode.UNAVAILABLE, "The engine was lost.")
    with pytest.raises(csm_client.IncompleteAudioError, match="The engine was lost") as failed:
        running.result(60)
    assert isinstance(failed.value.__cause__, csm_client.UnavailableError)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, csm_client.InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, csm_client.NotFoundError),
        (grpc.StatusCode.UNAVAILABLE, csm_client.UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, csm_client.DeadlineExceededError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, csm_client.ResourceExhaustedError),
        (grpc.StatusCode.INTERNAL, csm_client.InternalServerError),
        (grpc.StatusCode.UNIMPLEMENTED, csm_client.ServerError),
    ],
)
def test_every_status_has_its_type(
    fake: FakeServer, code: grpc.StatusCode, error: type[csm_client.ServerError]
) -> None:
    running = fake.call(lambda client: client.synthesize("Hello."))
    *_, rpc = fake.take_unary("Synthesize")
    rpc.send_initial_metadata(())
    rpc.terminate(None, (), code, "why")
    with pytest.raises(error, match="why") as failed:
        running.result(60)
    assert failed.value.code is code


UNREADABLE = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\x0a\xff")
DETAILS = [status_pb2.Status(code=3), status_pb2.Status(code=14, message="why", details=[UNREADABLE])]


@pytest.mark.parametrize("details", [b"\xff", *(status.SerializeToString() for status in DETAILS)])
def test_details_that_are_none_or_of_another_status_or_unreadable_are_left_out(
    fake: FakeServer, details: bytes
) -> None:
    """A proxy may replace the status, and leave the rest of the trailers."""
    running = fake.call(lambda client: client.synthesize("Hello."))
    *_, rpc = fake.take_unary("Synthesize")
    rpc.send_initial_metadata(())
    rpc.terminate(None, (("grpc-status-details-bin", details),), grpc.StatusCode.UNAVAILABLE, "why")
    with pytest.raises(csm_client.UnavailableError, match="why") as failed:
        running.result(60)
    assert failed.value.reason == "UNAVAILABLE"


def test_voices_are_read_page_by_page(fake: FakeServer) -> None:
    running = fake.call(lambda client: client.list_voices("en"))
    _, request, rpc = fake.take_unary("ListVoices")
    assert (request.language_code, request.page_token) == ("en", "")
    answer(rpc, tts_pb2.ListVoicesResponse(voices=[tts_pb2.Voice(name="ada")], next_page_token="1"))
    _, request, rpc = fake.take_unary("ListVoices")
    assert request.page_token == "1"
    answer(rpc, tts_pb2.ListVoicesResponse(voices=[tts_pb2.Voice(name="bo")]))
    assert [voice.name for voice in running.result(60)] == ["ada", "bo"]


def test_server_info_and_detection(fake: FakeServer) -> None:
    running = fake.call(lambda client: client.server_info())
    answer(fake.take_unary("GetServerInfo")[2], tts_pb2.GetServerInfoResponse(model_version="m"))
    assert running.result(60).model_version == "m"
    running = fake.call(lambda client: client.detect_watermark(b"RIFF", ["k"]))
    _, request, rpc = fake.take_unary("DetectWatermark", WATERMARK)
    assert list(request.key_ids) == ["k"] and request.recording.audio_content == b"RIFF"
    answer(rpc, watermark_pb2.DetectWatermarkResponse(detected=True, key_id="k"))
    assert running.result(60).key_id == "k"


def test_the_client_works_with_a_real_gateway(server: Any) -> None:
    with csm_client.Client(server.target, timeout_s=20) as client:
        whole, streamed = client.synthesize("Hello."), client.stream_synthesize("Hello.").read_all()
        assert whole.samples == streamed.samples and len(whole.samples) > 0
        with pytest.raises(csm_client.InvalidRequestError) as failed:
            client.synthesize("")
        assert failed.value.field_violations[0].field == "input.text"
        with client.stream_synthesize("Hello.") as stream:
            next(iter(stream))
        assert stream.summary is None
