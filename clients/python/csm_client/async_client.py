"""The asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self, Unpack

import grpc
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2

from csm_client import requests
from csm_client.credentials import CallMetadata, ConnectionOptions, call_metadata
from csm_client.errors import ClientClosedError, ServerError, cancelled_here, from_rpc_error, is_task_cancelled
from csm_client.requests import SpeechOptions, StreamOptions, VoiceOptions
from csm_client.resuming.connection import AsyncConnection, next_message
from csm_client.resuming.reader import SpeechReader
from csm_client.resuming.recording import DetectMessages, can_send_again, to_send_async
from csm_client.resuming.resumes import DEFAULT_RESUMES, Resumes, call_options, is_unreached, unhidden
from csm_client.speech import Speech, from_unary
from csm_client.text_writer import Piece, TextWriter
from csm_client.tracing import trace_metadata

DEFAULT_TIMEOUT_S = 600.0


class AsyncClient:
    """Calls one server, or all replicas behind a name. Every call has a deadline.

    Every method raises ServerError's subclasses, and ClientClosedError after `close`; see `csm_client.errors`.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        resumes: int = DEFAULT_RESUMES,
        channel: grpc.aio.Channel | None = None,
        metadata: CallMetadata = (),
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        """timeout_s: deadline of each call, in seconds; resumes: how often in a minute a stream that loses its server
        after the first audio is resumed at another one, bit for bit; 0 is never; channel: the caller's own, to which
        the TLS options do not apply; metadata: sent with every call, such as `traceparent`

        See ConnectionOptions for the rest. Raises TlsFileError, TokenError, TypeError, ValueError.
        """
        self._timeout_s = requests.checked_timeout(timeout_s)
        self._resumes = resumes
        self._metadata = call_metadata(target, connection, own_channel=channel is not None) + metadata
        self._connection = AsyncConnection(channel, target, connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    async def synthesize(self, text: str, **options: Unpack[SpeechOptions]) -> Speech:
        """The whole utterance in one message: at most 80 s of PCM at 24 kHz."""
        request = requests.unary_request(text, options)
        return from_unary(await self._call_until_answered(lambda: self._connection.tts.Synthesize, request))

    def stream_synthesize(self, text: str, **options: Unpack[StreamOptions]) -> AsyncSpeechStream:
        """Audio while it is generated. Iterate over it, or `await stream.read_all()`."""
        request = requests.stream_request(text, options)
        request.stream_config.send_checkpoints = self._resumes > 0
        traced = self._metadata + trace_metadata()

        def call(timeout_s: float) -> Any:
            return self._connection.tts.StreamSynthesize(request, **call_options(request, traced, timeout_s))

        resumes = Resumes(request, self._resumes, self._timeout_s)
        return AsyncSpeechStream(self._connection, call, resumes)

    def stream_synthesize_text(
        self, pieces: AsyncIterable[Piece] | Iterable[Piece], **options: Unpack[StreamOptions]
    ) -> AsyncSpeechStream:
        """Audio of a text that is still being written, sentence by sentence.

        pieces: of the text, cut anywhere, spaces included, as a language model streams them; a str is a complete text.
        A TextPiece is sent as it is, and may end a sentence with its `flush`.

        An exception of `pieces` ends the stream and is raised. `max_seconds` limits all sentences together. Up to 256
        KiB of sent text are kept, and sent again when the server is lost after the first audio. Sentences with a
        checkpoint are then not generated again.
        """
        request = requests.stream_request("", options)
        request.stream_config.send_checkpoints = self._resumes > 0
        writer = TextWriter(pieces, request, keep=self._resumes > 0)
        traced = self._metadata + trace_metadata()

        def text_call(timeout_s: float) -> Any:
            options = call_options(request, traced, timeout_s)
            return self._connection.tts.StreamSynthesizeText(writer.messages_async(), **options)

        resumes = Resumes(request, self._resumes, self._timeout_s, writer)
        return AsyncSpeechStream(self._connection, text_call, resumes, writer)

    async def list_voices(self, language: str = "") -> list[tts_pb2.Voice]:
        """Every voice, or those of a language (BCP-47)."""
        voices, until_s = list[tts_pb2.Voice](), time.monotonic() + self._timeout_s
        request, list_page = tts_pb2.ListVoicesRequest(language_code=language), lambda: self._connection.tts.ListVoices
        while True:
            page: tts_pb2.ListVoicesResponse = await self._call(list_page, request, until_s - time.monotonic())
            voices.extend(page.voices)
            if not page.next_page_token:
                return voices
            request.page_token = page.next_page_token

    async def create_voice(self, name: str, **options: Unpack[VoiceOptions]) -> voices_pb2.KeptVoice:
        """Stores a voice, owned by the caller. See VoiceOptions. Raises ValueError."""
        request = requests.create_voice_request(name, options)
        answer: voices_pb2.CreateVoiceResponse = await self._call(lambda: self._connection.voices.CreateVoice, request)
        return answer.voice

    async def get_voice(self, name: str) -> voices_pb2.KeptVoice:
        """A stored voice. Only its owner gets its consent and its prompt's text."""
        request = voices_pb2.GetVoiceRequest(name=name)
        answer: voices_pb2.GetVoiceResponse = await self._call(lambda: self._connection.voices.GetVoice, request)
        return answer.voice

    async def delete_voice(self, name: str) -> None:
        """Deletes a voice of the caller. Running streams continue."""
        await self._call(lambda: self._connection.voices.DeleteVoice, voices_pb2.DeleteVoiceRequest(name=name))

    async def server_info(self) -> tts_pb2.GetServerInfoResponse:
        """The server's model, formats and limits."""
        request = tts_pb2.GetServerInfoRequest()
        info: tts_pb2.GetServerInfoResponse = await self._call(lambda: self._connection.tts.GetServerInfo, request)
        return info

    async def detect_watermark(self, wav: bytes, key_ids: Sequence[str] = ()) -> watermark_pb2.DetectWatermarkResponse:
        """Whether a recording has a watermark of this server.

        wav: a file of WAV, Ogg Opus, MP3, AAC or FLAC; key_ids: all keys when empty
        """
        request = requests.detect_request(wav, key_ids)
        answer: watermark_pb2.DetectWatermarkResponse = await self._call_until_answered(
            lambda: self._connection.watermark.DetectWatermark, request
        )
        return answer

    async def find_watermarks(
        self, file: BinaryIO, key_ids: Sequence[str] = ()
    ) -> watermark_pb2.StreamDetectWatermarkResponse:
        """The watermarked stretches of a recording of up to an hour, which is sent while it is read.

        file: WAV, Ogg Opus, MP3, AAC or FLAC; key_ids: all keys when empty
        """
        messages = DetectMessages(file, key_ids)
        try:
            answer: watermark_pb2.StreamDetectWatermarkResponse = await self._call(
                lambda: self._connection.watermark.StreamDetectWatermark, messages
            )
        except ServerError as error:
            raise messages.error or error from None
        return answer

    async def _call_until_answered(self, method: Callable[[], Any], request: Any) -> Any:
        """Calls again when the server is lost. gRPC's own retries cover requests of up to 256 KiB only.

        method: returns the stub's method; called for each attempt, because `close` replaces the stub
        """
        resumes, nothing, timeout_s = Resumes(request, self._resumes, self._timeout_s), SpeechReader(), self._timeout_s
        while True:
            try:
                return await self._call(method, request, timeout_s)
            except ServerError as error:
                if error.code is grpc.StatusCode.CANCELLED or (after := resumes.after(error, nothing)) is None:
                    raise
                await asyncio.sleep(after.delay_s)
                timeout_s = after.timeout_s

    async def _call(self, method: Callable[[], Any], request: Any, timeout_s: float | None = None) -> Any:
        """Calls again over another channel when no server was reached, unless too much of `request` was read."""
        until_s = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while True:
            channel = self._connection.channel
            options = call_options(request, self._metadata + trace_metadata(), until_s - time.monotonic())
            try:
                return await method()(to_send_async(request), **options)
            except grpc.aio.AioRpcError as error:
                failure = unhidden(from_rpc_error(error), until_s)
            except asyncio.CancelledError:
                if is_task_cancelled():
                    raise
                raise cancelled_here() from None  # the client was closed, or the iterator of requests has failed
            is_found = is_unreached(failure) and await self._connection.finds_another(channel)
            if not is_found or not can_send_again(request):
                raise failure


class AsyncSpeechStream:
    """The audio stream of one text. Use `async with` if you may stop early: leaving the block cancels the call.

    Iterating raises IncompleteAudioError when the stream breaks after its first audio.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        open_call: Callable[[float], Any],  # with its deadline, in seconds
        resumes: Resumes,
        writer: TextWriter | None = None,
    ) -> None:
        self._connection, self._open_call, self._resumes = connection, open_call, resumes
        self._channel, self._call = connection.channel, open_call(resumes.timeout_s)
        self._writer, self._reader, self._is_cancelled = writer, SpeechReader(), False

    @property
    def header(self) -> tts_pb2.SynthesisHeader | None:
        """Known from the first chunk on."""
        return self._reader.header

    @property
    def summary(self) -> tts_pb2.SynthesisSummary | None:
        """Known when the iteration has ended."""
        return self._reader.summary

    @property
    def sentences(self) -> Sequence[tts_pb2.Sentence]:
        """The sentences of a text that have begun so far."""
        return self._reader.sentences

    async def __aiter__(self) -> AsyncIterator[tts_pb2.AudioChunk]:
        try:
            while True:
                try:
                    while (message := await next_message(self._call)) is not None:
                        if (chunk := self._reader.accept(message)) is not None:
                            yield chunk
                    break
                except grpc.aio.AioRpcError as error:
                    failure = from_rpc_error(error)
                except asyncio.CancelledError:
                    # From `cancel`, which must not end the reading task, or from grpc.aio for a write into a lost call.
                    if is_task_cancelled():
                        raise
                    failure = cancelled_here()
                if self._writer is not None and self._writer.error is not None:
                    raise self._writer.error from None
                if self._ended_while_writing:
                    break
                await self._resume(failure)
        finally:
            self._stop()
        self._reader.end()

    async def _resume(self, error: ServerError) -> None:
        """Opens the next call, or raises `error`."""
        if self._is_cancelled:
            self._reader.fail(error)
        is_found = is_unreached(error) and await self._connection.finds_another(self._channel)
        after = self._resumes.after(error, self._reader, is_found=is_found)
        if after is None:
            self._reader.fail(self._resumes.cause(error, self._reader), self._resumes.hindrance)
        self._call.cancel()  # it may still run if the failure was one of a write
        await asyncio.sleep(after.delay_s)
        if self._is_cancelled:
            self._reader.fail(cancelled_here())
        try:
            self._channel = self._connection.channel
            self._call = self._open_call(after.timeout_s)
        except (ClientClosedError, grpc.aio.UsageError):  # UsageError: the caller's own channel was closed
            self._reader.fail(error)

    @property
    def _ended_while_writing(self) -> bool:
        """Whether the stream is complete and only its status was lost, as grpc.aio does for a write after its end."""
        return self._writer is not None and self._reader.summary is not None and not self._is_cancelled

    async def read_all(self) -> Speech:
        """The whole utterance."""
        samples = b"".join([chunk.audio_content async for chunk in self])
        return self._reader.speech(samples)

    def cancel(self) -> None:
        """Cancels the call if it still runs; the server stops working on it. An iteration raises a CsmClientError."""
        self._is_cancelled = True
        self._stop()

    def _stop(self) -> None:
        self._call.cancel()
        if self._writer is not None:
            self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
