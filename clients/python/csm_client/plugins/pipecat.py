"""Speech for Pipecat: `CsmTTSService` is a pipecat TTSService over csm.v1. Needs csm-client[pipecat].

    Pipeline([..., llm, CsmTTSService("127.0.0.1:50051", voice="anna"), transport.output(), ...])

Each turn is one call that takes the language model's tokens as they come. The server cuts them into sentences, each
with the ones before it as context. An interruption cancels the call: the server stops working on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from pipecat.frames.frames import CancelFrame, EndFrame, Frame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TextAggregationMode, TTSService
from pipecat.utils.errors import ErrorCategory

from csm_client.async_client import DEFAULT_TIMEOUT_S, AsyncClient
from csm_client.credentials import ConnectionOptions
from csm_client.errors import CsmClientError, IncompleteAudioError, ServerError, is_wordless
from csm_client.requests import StreamOptions

SILENCES_PER_S = 100  # a turn without words, such as emoji alone, is a silence of 10 ms
MOST_WAITING = 1000  # tokens of a turn that the server has not taken yet

_CATEGORIES = {
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCategory.APPLICATION,  # this text; the next one may be right
    grpc.StatusCode.NOT_FOUND: ErrorCategory.INVALID_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: ErrorCategory.AUTHENTICATION,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCategory.AUTHORIZATION,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCategory.RATE_LIMIT,
    grpc.StatusCode.UNAVAILABLE: ErrorCategory.CONNECTIVITY,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCategory.CONNECTIVITY,
}


@dataclass
class _Turn:
    """One call: the tokens to send, None at their end, and the task that reads the audio. If it fails, the rest of its
    tokens is dropped: a call for each would fail as well.
    """

    tokens: asyncio.Queue[str | None]
    task: asyncio.Task[None]
    is_whole: bool = False  # no more tokens come


class CsmTTSService(TTSService):
    """One server, or all replicas behind a name. Audio has the pipeline's rate, 24 kHz by default.

    The voice can be changed at run time with TTSUpdateSettingsFrame, from the next turn on.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connection: ConnectionOptions | None = None,
        speech: StreamOptions | None = None,
        voice: str | None = None,
        **service: Any,
    ) -> None:
        """timeout_s: deadline of a turn's call, in seconds; connection: TLS and token; speech: speaker, seed, context,
        ...; service: what TTSService takes, such as `sample_rate`

        Raises ValueError for an encoding or a sample rate in `speech`: frames are PCM at the pipeline's rate.
        """
        self._speech: StreamOptions = speech or {}
        if {"encoding", "sample_rate_hz"} & self._speech.keys():
            raise ValueError("encoding and sample_rate_hz cannot be chosen: frames are PCM at the pipeline's rate")
        super().__init__(
            text_aggregation_mode=TextAggregationMode.TOKEN,
            push_start_frame=True,
            stop_frame_timeout_s=timeout_s,  # the end of the audio is always told, so silence ends no turn before
            settings=TTSSettings(model=None, voice=voice or self._speech.get("voice"), language=None),
            **service,
        )
        self._target, self._timeout_s, self._connection = target, timeout_s, connection or ConnectionOptions()
        self._opened: AsyncClient | None = None
        self._turns: dict[str, _Turn] = {}

    def can_generate_metrics(self) -> bool:
        return True

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Sends one token. The audio comes by the turn's task."""
        turn = self._turns.get(context_id)
        if turn is None:
            tokens = asyncio.Queue[str | None](MOST_WAITING)
            turn = _Turn(tokens, self.create_task(self._speak(context_id, tokens), f"csm {context_id}"))
            self._turns[context_id] = turn
        await self._send(turn, text)
        await self.start_tts_usage_metrics(text)
        yield None

    async def flush_audio(self, context_id: str | None = None) -> None:
        """The turn's text is whole."""
        context_id = context_id or self.get_active_audio_context_id() or ""
        if (turn := self._turns.get(context_id)) is not None:
            turn.is_whole = True
            await self._send(turn, None)
            if turn.task.done():
                self._turns.pop(context_id, None)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        await self._leave(context_id)
        await super().on_audio_context_interrupted(context_id)

    async def stop(self, frame: EndFrame) -> None:
        await super().stop(frame)
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._close()

    async def _speak(self, context_id: str, tokens: asyncio.Queue[str | None]) -> None:
        """The whole call. Its end, good or bad, ends the audio context."""

        async def text() -> AsyncIterator[str]:
            while (token := await tokens.get()) is not None:
                yield token

        options: StreamOptions = {**self._speech, "sample_rate_hz": self.sample_rate}
        if isinstance(voice := self._settings.voice, str):
            options["voice"] = voice
        try:
            async with self._client().stream_synthesize_text(text(), **options) as stream:
                async for chunk in stream:
                    await self._sound(context_id, chunk.audio_content)
        except Exception as error:  # also of a wrong option: else Pipecat would wait for the end of the turn
            if isinstance(error, CsmClientError) and is_wordless(error):  # without any audio it is a failure to Pipecat
                await self._sound(context_id, bytes(2 * (self.sample_rate // SILENCES_PER_S)))
            else:
                await self.push_error(_sentence(error), error, category=_category(error))
        if (turn := self._turns.get(context_id)) is not None and turn.is_whole:
            del self._turns[context_id]
        if self.audio_context_available(context_id):
            await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
            await self.remove_audio_context(context_id)

    async def _sound(self, context_id: str, samples: bytes) -> None:
        frame = TTSAudioRawFrame(samples, self.sample_rate, 1, context_id=context_id)
        await self.append_to_audio_context(context_id, frame)

    async def _send(self, turn: _Turn, token: str | None) -> None:
        """Waits while the queue is full, unless the call has ended: then nobody takes the token."""
        putting = asyncio.ensure_future(turn.tokens.put(token))
        try:
            await asyncio.wait({putting, turn.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()

    async def _leave(self, context_id: str) -> None:
        if (turn := self._turns.pop(context_id, None)) is not None:
            await self.cancel_task(turn.task)

    async def _close(self) -> None:
        for context_id in list(self._turns):
            await self._leave(context_id)
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def _client(self) -> AsyncClient:
        if self._opened is None:
            self._opened = AsyncClient(self._target, timeout_s=self._timeout_s, **self._connection)
        return self._opened


def _category(error: Exception) -> ErrorCategory:
    if isinstance(error, IncompleteAudioError):
        return ErrorCategory.CONNECTIVITY
    if isinstance(error, ServerError):
        return _CATEGORIES.get(error.code, ErrorCategory.SERVER)
    return ErrorCategory.UNKNOWN


def _sentence(error: Exception) -> str:
    violations = error.field_violations if isinstance(error, ServerError) else ()
    return "; ".join(f"{violation.field} {violation.description}" for violation in violations) or str(error)
