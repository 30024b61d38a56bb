"""The ways in which the service is used: by gRPC, by HTTP and on a WebSocket, and by callers that leave.

Each use gives a digest of what it heard, the same every time, or None where there is nothing to compare. It raises
WrongError for an answer that it should not have got.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import csm_client
import httpx
from csm_client.requests import Consent, Turn
from websockets.asyncio.client import connect

TEXT = "The harbour was quiet. Nobody had lit the lamps! Would the ferry come at all?"
AUDIO_S = 2.0
TIMEOUT_S = 120.0
FORMATS = ("pcm", "wav", "mp3", "opus", "aac", "flac", "mulaw")
NAMES = itertools.count()  # numbers for the names of voices


class WrongError(Exception):
    """An unexpected answer."""


@dataclass(frozen=True)
class Doors:
    """Addresses of the service, and recordings that callers share."""

    target: str  # of the gateway
    http: str  # address and port of the HTTP door
    client: csm_client.AsyncClient
    recording: bytes  # a WAV of what the service said
    unmarked: bytes  # another WAV, for voices: the service refuses its own marked output


Use = Callable[[Doors], Awaitable[str | None]]


async def stream(doors: Doors) -> str:
    speech = await doors.client.stream_synthesize(TEXT, seed=1, max_seconds=AUDIO_S).read_all()
    return _digest(speech.samples)


async def one_answer(doors: Doors) -> str:
    """Uses a new connection."""
    async with csm_client.AsyncClient(doors.target, timeout_s=TIMEOUT_S) as client:
        return _digest((await client.synthesize(TEXT, seed=2, max_seconds=AUDIO_S, speed=1.5)).samples)


async def text(doors: Doors) -> str:
    async def pieces() -> AsyncIterator[str]:
        for word in TEXT.split(" "):
            yield word + " "
            await asyncio.sleep(0.01)

    speech = await doors.client.stream_synthesize_text(pieces(), seed=3, max_seconds=AUDIO_S).read_all()
    return _digest(speech.samples)


async def conversation(doors: Doors) -> str:
    """Three turns, with the codes of the earlier ones as context."""
    turns: list[Turn] = []
    samples = b""
    for number in range(3):
        stream = doors.client.stream_synthesize(
            f"This is turn {number}.", speaker=number % 2, seed=4, max_seconds=1.0, context=turns, return_codes=True,
            conversation_id="soak",
        )  # fmt: skip
        speech = await stream.read_all()
        turns.append(Turn(number % 2, f"This is turn {number}.", codes=speech.codes))
        samples += speech.samples
    return _digest(samples)


async def with_recording(doors: Doors) -> str:
    turn = Turn(0, TEXT, wav=doors.recording)
    stream = doors.client.stream_synthesize("And then?", seed=5, max_seconds=1.0, context=[turn])
    return _digest((await stream.read_all()).samples)


async def leaves(doors: Doors) -> None:
    async with doors.client.stream_synthesize(TEXT, seed=6, max_seconds=10.0) as stream:
        async for _ in stream:
            return


async def too_late(doors: Doors) -> None:
    async with csm_client.AsyncClient(doors.target, timeout_s=0.3) as client:
        try:
            await client.synthesize(TEXT, seed=7, max_seconds=30.0)
        except csm_client.DeadlineExceededError:
            return
    raise WrongError("half a minute of speech was there within 0.3 s")


async def refused(doors: Doors) -> None:
    try:
        await doors.client.synthesize(TEXT, top_k=0)
    except csm_client.InvalidRequestError:
        return
    raise WrongError("top_k 0 was taken")


async def kept_voice(doors: Doors) -> str:
    name = f"soak-{next(NAMES)}"
    consent = Consent("soak", "The speaker is a machine.")
    await doors.client.create_voice(name, text=TEXT, audio=doors.unmarked, consent=consent)
    try:
        stream = doors.client.stream_synthesize("In another voice.", voice=name, seed=8, max_seconds=1.0)
        return _digest((await stream.read_all()).samples)
    finally:
        await doors.client.delete_voice(name)


async def mark(doors: Doors) -> str:
    found = await doors.client.detect_watermark(doors.recording)
    return f"{found.detected} {found.key_id}"


def http_speech(encoding: str) -> Use:
    """A use with that audio format."""

    async def use(doors: Doors) -> str:
        async with httpx.AsyncClient(base_url=f"http://{doors.http}", timeout=TIMEOUT_S) as client:
            answer = await client.post("/v1/audio/speech", json=_body(encoding, seed=9, max_audio_seconds=AUDIO_S))
        if answer.status_code != 200:
            raise WrongError(f"HTTP {answer.status_code}: {answer.text[:300]}")
        return _digest(answer.content)

    return use


async def http_leaves(doors: Doors) -> None:
    async with httpx.AsyncClient(base_url=f"http://{doors.http}", timeout=TIMEOUT_S) as client:
        body = _body("pcm", seed=10, max_audio_seconds=10.0)
        async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
            await anext(answer.aiter_raw())


async def websocket(doors: Doors) -> str:
    """Two utterances, the first of which is cancelled."""
    heard = b""
    async with connect(f"ws://{doors.http}/v1/audio/stream", open_timeout=TIMEOUT_S, max_size=None) as socket:

        async def send(**message: object) -> None:
            await socket.send(json.dumps(message))

        async def event(*types: str) -> bytes:
            """The audio until an event of one of these types."""
            audio = b""
            async with asyncio.timeout(TIMEOUT_S):
                async for message in socket:
                    if isinstance(message, bytes):
                        audio += message
                        continue
                    found = json.loads(message)["type"]
                    if found in types:
                        return audio
                    if found == "error":
                        raise WrongError(f"WebSocket: {message[:300]}")
            raise WrongError("the WebSocket was closed")

        await send(type="session.config", response_format="pcm", seed=11, max_audio_seconds=AUDIO_S)
        await send(type="input.text", text=TEXT)
        await event("audio.start")
        await send(type="input.cancel")
        await event("audio.cancelled")
        await send(type="input.text", text=TEXT)
        await send(type="input.done")
        heard = await event("session.done")
    return _digest(heard)


USES: dict[str, Use] = {
    "stream": stream,
    "one answer": one_answer,
    "text": text,
    "conversation": conversation,
    "recording": with_recording,
    "caller leaves": leaves,
    "deadline": too_late,
    "refused": refused,
    "kept voice": kept_voice,
    "mark": mark,
    **{f"http {encoding}": http_speech(encoding) for encoding in FORMATS},
    "http caller leaves": http_leaves,
    "websocket": websocket,
}


def _body(encoding: str, **fields: object) -> dict[str, object]:
    return {"input": TEXT, "response_format": encoding, **fields}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
