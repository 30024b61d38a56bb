"""WS /v1/audio/stream: text in pieces in, audio and sentence marks out; flush, cancel, several utterances in turn."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from contextlib import ExitStack
from typing import Any

from csm_client import AsyncClient, CsmClientError
from fastapi import APIRouter, WebSocket
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from services.http.api.disconnect import CallerGoneError
from services.http.api.errors import TOO_SLOW, ApiError, failed, from_client_error
from services.http.api.front import BROKEN, REASON
from services.http.api.streams import about_to_stop
from services.http.api.upstream import Caller
from services.http.cuts import LOST
from services.http.door import Door, door_of
from services.http.endpoints.speech import check_model
from services.http.endpoints.speech_request import client_options, context_size, ignored_parameters
from services.http.endpoints.utterance import Utterance
from services.http.endpoints.waiting_text import WaitingText
from services.http.endpoints.websocket_messages import (
    ClientMessage,
    InputCancel,
    InputDone,
    InputFlush,
    InputText,
    SessionConfig,
    parse_first,
    parse_later,
)

PATH = "/v1/audio/stream"
MOST_UTTERANCES = 32  # waiting
GOING_AWAY, POLICY, FAILED, TRY_LATER, RESTART = 1001, 1008, 1011, 1013, 1012
STOPS = "the server stops"


router = APIRouter()


@router.websocket(PATH)
async def stream(websocket: WebSocket) -> None:
    door = door_of(websocket)
    with ExitStack() as held:
        try:
            caller = door.upstream.caller(websocket.headers)
            held.enter_context(door.streams.one_more())
        except ApiError as error:
            websocket.scope[REASON] = error.code
            await websocket.send_denial_response(JSONResponse(error.body, error.status, error.headers))
            return
        await websocket.accept()
        await _Session(door, websocket, caller).run()


class _Session:
    """One WebSocket session: a configuration, then utterances one after another."""

    def __init__(self, door: Door, websocket: WebSocket, caller: Caller) -> None:
        self._door = door
        self._websocket = websocket
        self._caller = caller
        self._utterances: deque[Utterance] = deque()  # the first one is being spoken
        self._waiting = WaitingText(door.bodies)
        self._speaking: asyncio.Task[None] | None = None
        # Bytes of the configurations' contexts, out of the door's for bodies; the last one is the present one's.
        self._held: list[int] = []

    async def run(self) -> None:
        """Raises CallerGoneError when the client leaves within an utterance, or vanishes."""
        draining = asyncio.create_task(self._door.streams.draining.wait())
        first = asyncio.create_task(self._first_message())
        receiving: asyncio.Task[ClientMessage] | None = None
        try:
            await asyncio.wait({first, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                await self._close(RESTART, STOPS)
                return
            await self._configure(first.result())
            await self._send_json(await self._created())
            receiving = asyncio.create_task(self._receive())
            while True:
                tasks: set[asyncio.Task[Any]] = {receiving, *([self._speaking] if self._speaking else [])}
                if not self._speaking:
                    tasks.add(draining)
                idle_s = None if self._speaking else self._door.settings.websocket_idle_seconds
                done, _ = await asyncio.wait(tasks, timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    await self._close(GOING_AWAY, "idle")
                    return
                if self._speaking in done:
                    self._end_utterance()
                if receiving in done:
                    await self._handle(receiving.result())
                    receiving = asyncio.create_task(self._receive())
                elif draining.done() and not self._speaking:
                    await self._close(RESTART, STOPS)
                    return
        except WebSocketDisconnect:
            self._left()
        except TimeoutError:  # of a write
            self._websocket.scope[REASON] = TOO_SLOW.code
        except ApiError as error:
            await self._fail(error)
        except CsmClientError as error:
            await self._fail(from_client_error(error))
        except Exception:  # that nobody foresaw; the front logs it
            await self._fail(failed())
            raise
        finally:
            tasks = {task for task in (draining, first, receiving, self._speaking) if task is not None}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._drop_utterances()
            self._door.bodies.give_back(sum(self._held))

    def _left(self) -> None:
        """Raises CallerGoneError, unless the client has closed an idle session or the server has closed this one."""
        if self._utterances and self._door.streams.are_cut:
            self._websocket.scope[BROKEN] = about_to_stop().code
        elif self._utterances or LOST in self._websocket.scope["state"]:
            raise CallerGoneError

    async def _first_message(self) -> SessionConfig:
        try:
            async with asyncio.timeout(self._door.settings.header_timeout_seconds):
                return parse_first(await self._message())
        except TimeoutError:
            raise ApiError(408, "The first message did not come in time.", code="config_too_slow") from None

    async def _configure(self, config: SessionConfig) -> None:
        """Raises ApiError for what this server cannot do, and for a context that has no room beside those of others."""
        size = context_size(config)
        self._door.bodies.take(size)
        self._held.append(size)
        if config.token is not None:
            self._caller = dataclasses.replace(self._caller, token=config.token)
        self._client: AsyncClient = self._door.upstream.client(self._caller)
        await check_model(self._door, self._client, config.model)
        self._options = client_options(config, self._door.names, "")
        self._config = config
        self._give_back()

    def _give_back(self) -> None:
        """What former configurations held, once no utterance has one of them."""
        if not self._utterances:
            self._door.bodies.give_back(sum(self._held[:-1]))
            del self._held[:-1]

    async def _created(self) -> dict[str, Any]:
        """The answer to the first message; the call behind it shows that the token is right."""
        info = await self._client.server_info()
        found: dict[str, Any] = {
            "type": "session.created",
            "id": self._websocket.state.request_id,
            "model": info.model_version,
            "sample_rate": self._config.sample_rate or info.natural_sample_rate_hertz,
        }
        ignored = ignored_parameters(self._config)
        return found | ({"ignored_parameters": ignored} if ignored else {})

    async def _handle(self, message: ClientMessage) -> None:
        match message:
            case SessionConfig():
                await self._configure(message)
            case InputText() if message.text:
                self._open_utterance().push(message.text, message.flush)
            case InputFlush() | InputText(flush=True):
                if self._has_open:
                    self._utterances[-1].push("", flush=True)
            case InputDone():
                if self._has_open:
                    self._utterances[-1].end()
                else:  # of an utterance without text, which is answered in its turn too
                    self._open_utterance().end()
            case InputCancel():
                await self._cancel()

    @property
    def _has_open(self) -> bool:
        """Whether the text of the last utterance may go on."""
        return bool(self._utterances) and self._utterances[-1].is_open

    def _open_utterance(self) -> Utterance:
        if self._has_open:
            return self._utterances[-1]
        if len(self._utterances) >= MOST_UTTERANCES:
            raise ApiError(429, f"{MOST_UTTERANCES} utterances wait already.", code="too_many_utterances")
        config = self._config  # what it says now stays true of this utterance
        self._utterances.append(
            Utterance(self._client, self._options, config.response_format, config.audio, self._waiting)
        )
        self._speak_next()
        return self._utterances[-1]

    def _speak_next(self) -> None:
        if self._speaking is None and self._utterances:
            self._speaking = asyncio.create_task(self._utterances[0].speak(self._send_json, self._send_bytes))

    def _end_utterance(self) -> None:
        """Raises ApiError when it failed."""
        assert self._speaking is not None
        self._speaking.result()
        self._speaking = None
        self._utterances.popleft().drop()
        self._give_back()
        self._speak_next()

    async def _cancel(self) -> None:
        """Stops what is spoken and forgets what waits; says so even when there was nothing."""
        stopped = self._utterances[0] if self._utterances else None
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)
            self._speaking = None
        self._drop_utterances()
        self._give_back()
        nothing = {"type": "audio.cancelled", "sentence_index": -1, "sent_samples": 0}
        await self._send_json(nothing if stopped is None else stopped.cancelled())

    def _drop_utterances(self) -> None:
        while self._utterances:
            self._utterances.popleft().drop()

    async def _receive(self) -> ClientMessage:
        return parse_later(await self._message())

    async def _message(self) -> str | bytes:
        """Raises WebSocketDisconnect."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text = message.get("text")
        content: str | bytes = text if text is not None else message.get("bytes") or b""
        return content

    async def _send_json(self, value: dict[str, Any]) -> None:
        async with asyncio.timeout(self._door.settings.write_timeout_seconds):
            await self._websocket.send_json(value)

    async def _send_bytes(self, content: bytes) -> None:
        async with asyncio.timeout(self._door.settings.write_timeout_seconds):
            await self._websocket.send_bytes(content)

    async def _close(self, code: int, reason: str) -> None:
        async with asyncio.timeout(self._door.settings.write_timeout_seconds):
            await self._websocket.close(code, reason)

    async def _fail(self, error: ApiError) -> None:
        """Reports the error to the client and closes."""
        code = TRY_LATER if error.status in (429, 503) else POLICY if error.status < 500 else FAILED
        self._websocket.scope[BROKEN if error.status >= 500 else REASON] = error.code
        try:
            await self._send_json({"type": "error", **error.body})
            await self._close(code, error.code)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            pass  # it has left
