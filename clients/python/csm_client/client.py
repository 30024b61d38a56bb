"""The synchronous client: the same methods and errors as the asynchronous one, over blocking stubs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Self, Unpack

import grpc
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2

from csm_client import requests
from csm_client.async_client import DEFAULT_TIMEOUT_S
from csm_client.credentials import CallMetadata, ConnectionOptions, call_metadata
from csm_client.errors import ClientClosedError, ServerError, from_rpc_error
from csm_client.requests import SpeechOptions, StreamOptions, VoiceOptions
from csm_client.resuming.connection import Connection
from csm_client.resuming.reader import SpeechReader
from csm_client.resuming.recording import DetectMessages, can_send_again, to_send
from csm_client.resuming.resumes import DEFAULT_RESUMES, Resumes, call_options, is_unreached
from csm_client.speech import Speech, from_unary
from csm_client.text_writer import Piece, TextWriter
from csm_client.tracing import trace_metadata


class Client:
    """Calls one server, or all replicas behind a name. See AsyncClient for what the methods do."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        resumes: int = DEFAULT_RESUMES,
        channel: grpc.Channel | None = None,
        metadata: CallMetadata = (),
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self._timeout_s = requests.checked_timeout(timeout_s)
        self._resumes = resumes
        self._metadata = call_metadata(target, connection, own_channel=channel is not None) + metadata
        self._connection = Connection(channel, target, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def synthesize(self, text: str, **options: Unpack[SpeechOptions]) -> Speech:
        request = requests.unary_request(text, options)
        return from_unary(self._call_until_answered(lambda: self._connection.tts.Synthesize, request))

    def stream_synthesize(self, text: str, **options: Unpack[StreamOptions]) -> SpeechStream:
        request = requests.stream_request(text, options)
        request.stream_config.send_checkpoints = self._resumes > 0
        traced = self._metadata + trace_metadata()

        def call(timeout_s: float) -> Any:
            return self._connection.tts.StreamSynthesize(request, **call_options(request, traced, timeout_s))

        resumes = Resumes(request, self._resumes, self._timeout_s)
        return SpeechStream(self._connection, call, resumes)

    def stream_synthesize_text(self, pieces: Iterable[Piece], **options: Unpack[StreamOptions]) -> SpeechStream:
        """`pieces` are iterated in a thread of gRPC."""
        request = requests.stream_request("", options)
        request.stream_config.send_checkpoints = self._resumes > 0
        writer = TextWriter(pieces, request, keep=self._resumes > 0)
        traced = self._metadata + trace_metadata()

        def text_call(timeout_s: float) -> Any:
            options = call_options(request, traced, timeout_s)
            return self._connection.tts.StreamSynthesizeText(writer.messages(), **options)

        resumes = Resumes(request, self._resumes, self._timeout_s, writer)
        return SpeechStream(self._connection, text_call, resumes, writer)

    def list_voices(self, language: str = "") -> list[tts_pb2.Voice]:
        voices, until_s = list[tts_pb2.Voice](), time.monotonic() + self._timeout_s
        request = tts_pb2.ListVoicesRequest(language_code=language)
        while True:
            page: tts_pb2.ListVoicesResponse = self._call(
                lambda: self._connection.tts.ListVoices, request, until_s - time.monotonic()
            )
            voices.extend(page.voices)
            if not page.next_page_token:
                return voices
            request.page_token = page.next_page_token

    def create_voice(self, name: str, **options: Unpack[VoiceOptions]) -> voices_pb2.KeptVoice:
        request = requests.create_voice_request(name, options)
        answer: voices_pb2.CreateVoiceResponse = self._call(lambda: self._connection.voices.CreateVoice, request)
        return answer.voice

    def get_voice(self, name: str) -> voices_pb2.KeptVoice:
        request = voices_pb2.GetVoiceRequest(name=name)
        answer: voices_pb2.GetVoiceResponse = self._call(lambda: self._connection.voices.GetVoice, request)
        return answer.voice

    def delete_voice(self, name: str) -> None:
        self._call(lambda: self._connection.voices.DeleteVoice, voices_pb2.DeleteVoiceRequest(name=name))

    def server_info(self) -> tts_pb2.GetServerInfoResponse:
        info: tts_pb2.GetServerInfoResponse = self._call(
            lambda: self._connection.tts.GetServerInfo, tts_pb2.GetServerInfoRequest()
        )
        return info

    def detect_watermark(self, wav: bytes, key_ids: Sequence[str] = ()) -> watermark_pb2.DetectWatermarkResponse:
        request = requests.detect_request(wav, key_ids)
        answer: watermark_pb2.DetectWatermarkResponse = self._call_until_answered(
            lambda: self._connection.watermark.DetectWatermark, request
        )
        return answer

    def find_watermarks(
        self, file: BinaryIO, key_ids: Sequence[str] = ()
    ) -> watermark_pb2.StreamDetectWatermarkResponse:
        """`file` is read in a thread of gRPC."""
        messages = DetectMessages(file, key_ids)
        try:
            answer: watermark_pb2.StreamDetectWatermarkResponse = self._call(
                lambda: self._connection.watermark.StreamDetectWatermark, messages
            )
        except ServerError as error:
            raise messages.error or error from None
        return answer

    def _call_until_answered(self, method: Callable[[], Any], request: Any) -> Any:
        """As AsyncClient's."""
        resumes, nothing = Resumes(request, self._resumes, self._timeout_s), SpeechReader()
        timeout_s = self._timeout_s
        while True:
            try:
                return self._call(method, request, timeout_s)
            except ServerError as error:
                if error.code is grpc.StatusCode.CANCELLED or (after := resumes.after(error, nothing)) is None:
                    raise
                time.sleep(after.delay_s)
                timeout_s = after.timeout_s

    def _call(self, method: Callable[[], Any], request: Any, timeout_s: float | None = None) -> Any:
        """Calls again over another channel when no server was reached, unless too much of `request` was read."""
        until_s = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while True:
            channel = self._connection.channel
            options = call_options(request, self._metadata + trace_metadata(), until_s - time.monotonic())
            try:
                return method()(to_send(request), **options)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            is_found = is_unreached(failure) and self._connection.finds_another(channel)
            if not is_found or not can_send_again(request):
                raise failure


class SpeechStream:
    """A stream of one text; see AsyncSpeechStream."""

    def __init__(
        self,
        connection: Connection,
        open_call: Callable[[float], Any],
        resumes: Resumes,
        writer: TextWriter | None = None,
    ) -> None:
        self._connection, self._open_call, self._resumes = connection, open_call, resumes
        self._cancelled = threading.Event()
        self._channel = connection.channel
        self._call = open_call(resumes.timeout_s)
        self._writer = writer
        self._reader = SpeechReader()

    @property
    def header(self) -> tts_pb2.SynthesisHeader | None:
        return self._reader.header

    @property
    def summary(self) -> tts_pb2.SynthesisSummary | None:
        return self._reader.summary

    @property
    def sentences(self) -> Sequence[tts_pb2.Sentence]:
        return self._reader.sentences

    def __iter__(self) -> Iterator[tts_pb2.AudioChunk]:
        try:
            while True:
                try:
                    for message in self._call:
                        if (chunk := self._reader.accept(message)) is not None:
                            yield chunk
                    break
                except grpc.RpcError as error:
                    if self._writer is not None and self._writer.error is not None:
                        raise self._writer.error from None
                    self._resume(from_rpc_error(error))
        finally:
            self.cancel()
        self._reader.end()

    def _resume(self, error: ServerError) -> None:
        """Opens the next call, or raises `error`."""
        is_found = is_unreached(error) and self._connection.finds_another(self._channel)
        after = None if self._cancelled.is_set() else self._resumes.after(error, self._reader, is_found=is_found)
        if after is None or self._cancelled.wait(after.delay_s):
            self._reader.fail(self._resumes.cause(error, self._reader), self._resumes.hindrance)
        try:
            self._channel = self._connection.channel
            self._call = self._open_call(after.timeout_s)
        except (ClientClosedError, ValueError):  # ValueError: the caller's own channel was closed
            self._reader.fail(error)
        if self._cancelled.is_set():  # meanwhile; `cancel` has cancelled the previous call
            self._call.cancel()

    def read_all(self) -> Speech:
        samples = b"".join([chunk.audio_content for chunk in self])
        return self._reader.speech(samples)

    def cancel(self) -> None:
        self._cancelled.set()
        self._call.cancel()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
