"""Speech for LiveKit Agents: `TTS` is a livekit.agents.tts.TTS over csm.v1. Needs csm-client[livekit].

    session = AgentSession(tts=TTS("127.0.0.1:50051", voice="anna"), ...)

An interruption cancels the task that reads a stream, and that cancels the call: the server stops working on it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Unpack

import grpc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
    tts,
)

from csm_client.async_client import DEFAULT_TIMEOUT_S, AsyncClient, AsyncSpeechStream
from csm_client.credentials import ConnectionOptions
from csm_client.errors import (
    CsmClientError,
    DeadlineExceededError,
    IncompleteAudioError,
    ServerError,
    UnavailableError,
    is_wordless,
)
from csm_client.requests import StreamOptions

SAMPLE_RATE_HZ = 24_000
SILENCE = bytes(2 * SAMPLE_RATE_HZ // 100)  # 10 ms

# HTTP's numbers, which LiveKit's errors carry: from 400 to 499 nothing is tried again, but 408 and 429.
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 400,
}


class TTS(tts.TTS):
    """One server, or all replicas behind a name. The channel is opened with the first speech, in the session's loop."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connection: ConnectionOptions | None = None,
        **speech: Unpack[StreamOptions],
    ) -> None:
        """timeout_s: deadline of each call, in seconds; connection: TLS and token; speech: voice, speaker, seed, ...

        Raises ValueError for an encoding or a sample rate: frames are PCM at 24 kHz.
        """
        if {"encoding", "sample_rate_hz"} & speech.keys():
            raise ValueError("encoding and sample_rate_hz cannot be chosen: frames are PCM at 24 kHz")
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=SAMPLE_RATE_HZ, num_channels=1)
        self._target, self._timeout_s, self._connection = target, timeout_s, connection or ConnectionOptions()
        self._speech: StreamOptions = {**speech, "sample_rate_hz": SAMPLE_RATE_HZ}
        self._opened: AsyncClient | None = None

    @property
    def provider(self) -> str:
        return "csm"

    @property
    def model(self) -> str:
        return "csm"

    def update_options(self, **speech: Unpack[StreamOptions]) -> None:
        """For the speech that begins from now on."""
        self._speech.update(speech)

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return ChunkedStream(self, text, conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        return SynthesizeStream(self, conn_options)

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def _client(self) -> AsyncClient:
        if self._opened is None:
            self._opened = AsyncClient(self._target, timeout_s=self._timeout_s, **self._connection)
        return self._opened

    def _say(self, text: str | AsyncIterator[str], request_id: str) -> AsyncSpeechStream:
        options: StreamOptions = {**self._speech, "request_id": request_id}
        if isinstance(text, str):
            return self._client().stream_synthesize(text, **options)
        return self._client().stream_synthesize_text(text, **options)


class ChunkedStream(tts.ChunkedStream):
    """A text that is all there."""

    def __init__(self, owner: TTS, text: str, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=owner, input_text=text, conn_options=conn_options)
        self._owner = owner

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        request_id = str(uuid.uuid4())
        _begin(output_emitter, request_id, in_segments=False)
        with _mapped_errors(output_emitter):
            async with self._owner._say(self._input_text, request_id) as stream:
                async for chunk in stream:
                    output_emitter.push(chunk.audio_content)


class SynthesizeStream(tts.SynthesizeStream):
    """A text that is being written: one segment, as LiveKit wants it. A flush or the end of the input ends the text."""

    def __init__(self, owner: TTS, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=owner, conn_options=conn_options)
        self._owner = owner

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        request_id = str(uuid.uuid4())
        _begin(output_emitter, request_id, in_segments=True)
        pieces = self._pieces()
        first = await anext(pieces, None)
        if first is None:  # nothing to say, so nothing is asked for
            return
        self._mark_started()

        async def text() -> AsyncIterator[str]:
            yield first
            async for piece in pieces:
                yield piece

        output_emitter.start_segment(segment_id=request_id)
        with _mapped_errors(output_emitter):
            async with self._owner._say(text(), request_id) as stream:
                async for chunk in stream:
                    output_emitter.push(chunk.audio_content)
        output_emitter.end_segment()

    async def _pieces(self) -> AsyncIterator[str]:
        async for piece in self._input_ch:
            if isinstance(piece, self._FlushSentinel):
                return
            yield piece


def _begin(emitter: tts.AudioEmitter, request_id: str, *, in_segments: bool) -> None:
    emitter.initialize(
        request_id=request_id,
        sample_rate=SAMPLE_RATE_HZ,
        num_channels=1,
        mime_type="audio/pcm",
        stream=in_segments,
    )


@contextmanager
def _mapped_errors(emitter: tts.AudioEmitter) -> Iterator[None]:
    """A text without words, such as emoji alone, is a silence: LiveKit takes one without audio for a failure."""
    try:
        yield
    except CsmClientError as error:
        if is_wordless(error):
            emitter.push(SILENCE)
            return
        raise _mapped(error) from error


def _mapped(error: CsmClientError) -> APIError:
    """LiveKit's error, which knows whether another attempt makes sense."""
    match error:
        case DeadlineExceededError():
            return APITimeoutError(str(error))
        case UnavailableError() | IncompleteAudioError():
            return APIConnectionError(str(error))
        case ServerError():
            fields = "; ".join(f"{violation.field} {violation.description}" for violation in error.field_violations)
            return APIStatusError(
                fields or str(error),
                status_code=_HTTP.get(error.code, 500),
                request_id=error.request_id or None,
                body={"reason": error.reason},
            )
        case _:
            return APIError(str(error), retryable=False)
