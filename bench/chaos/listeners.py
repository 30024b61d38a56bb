"""The load: requests that are made again and again, and their outcomes, compared with the undisturbed run."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import csm_client
import httpx

from bench.chaos.items import Item
from bench.chaos.refusals import Refusal
from tests.support.wav import wav_of

DEADLINE_S = 600.0  # so long that no stream fails on a busy machine
AT_ONCE = 4  # concurrent streams of the undisturbed run
RESUMES = 20  # of the client after a lost gateway; faults are far more frequent here than in production
AGAIN_AFTER_S = 3.0  # wait after a refusal
SLOW_READ_S = 0.15  # wait of a slow reader before each message
LONG_GAP_S = 4.0  # longer gaps are printed
STALL_S = 6.0  # the one pause of a stalled reader
STALL_AT_MESSAGE = 5


@dataclass(frozen=True)
class Gap:
    """The longest wait of a stream between two messages of audio."""

    seconds: float
    ended_at_s: float  # on the monotonic clock


class RefusedByDoor(Exception):
    """The HTTP door answered with an error instead of audio."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.reason = f"HTTP {status}"


@dataclass
class Outcomes:
    """The outcomes of all streams so far."""

    ok: int = 0
    failed: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)  # before the first sample
    gaps: list[Gap] = field(default_factory=list)

    @property
    def refused(self) -> int:
        return len(self.refusals)

    @property
    def streams(self) -> int:
        return self.ok + self.refused + len(self.failed) + len(self.different)


class Listeners:
    """Requests items one after the other, and reads the streams fast, slowly or with a stall."""

    def __init__(self, target: str, items: Sequence[Item], door: str = "") -> None:
        """target: of all gateways. items: of the undisturbed run. door: URL of the HTTP door, if items need it."""
        self.outcomes = Outcomes()
        self.unmarked: list[str] = []  # items of the undisturbed run in which no mark was found
        self.reader_faults: Counter[str] = Counter()
        self._items = items
        self._client = csm_client.AsyncClient(target, timeout_s=DEADLINE_S, resumes=RESUMES)
        self._door = httpx.AsyncClient(base_url=door, timeout=DEADLINE_S)
        self._expected: dict[Item, bytes] = {}

    async def close(self) -> None:
        await self._client.close()
        await self._door.aclose()

    async def run_undisturbed(self) -> None:
        """Makes the streams that later ones are compared with, and searches them for the watermark.

        Raises csm_client.CsmClientError, RefusedByDoor and httpx.HTTPError when a stream fails.
        """
        for at in range(0, len(self._items), AT_ONCE):
            await asyncio.gather(*(self._run_undisturbed(item) for item in self._items[at : at + AT_ONCE]))

    async def _run_undisturbed(self, item: Item) -> None:
        samples, _ = await self._read(item, "fast")
        self._expected[item] = hashlib.sha256(samples).digest()
        if not (await self._client.detect_watermark(wav_of(samples))).detected:
            self.unmarked.append(item.name)

    async def listen(self, items: Sequence[Item], is_over: Callable[[], bool], readers: tuple[str, ...]) -> None:
        """One listener, until `is_over`. readers: "fast", "slow" or "stalled", in turn."""
        for item, reader in zip(itertools.cycle(items), itertools.cycle(readers)):
            if is_over():
                return
            await self._record_outcome(item, reader)

    async def _record_outcome(self, item: Item, reader: str) -> None:
        name = f"{item.name}, {reader} reader"
        asked_at_s = time.monotonic()
        try:
            samples, gap = await self._read(item, reader)
        except (csm_client.ServerError, RefusedByDoor) as error:  # before the first sample
            self.outcomes.refusals.append(Refusal(name, error.reason, str(error), asked_at_s, time.monotonic()))
            await asyncio.sleep(AGAIN_AFTER_S)
        except (csm_client.CsmClientError, httpx.HTTPError) as error:
            cause = getattr(error.__cause__, "reason", "")
            self.outcomes.failed.append(f"{name}: {type(error).__name__} {cause}: {error}")
        else:
            if hashlib.sha256(samples).digest() == self._expected[item]:
                self.outcomes.ok += 1
                self.outcomes.gaps.append(gap)
                if gap.seconds > LONG_GAP_S:
                    print(f"{name}: nothing for {gap.seconds:.1f} s until {gap.ended_at_s:.1f}", flush=True)
            else:
                self.outcomes.different.append(name)

    async def _read(self, item: Item, reader: str) -> tuple[bytes, Gap]:
        """Reads a stream. Returns its samples, and the longest gap that the reader did not cause itself."""
        samples = bytearray()
        longest, asked_at_s = Gap(0.0, 0.0), 0.0
        number = 0
        async with aclosing(self._pieces(item)) as pieces:
            async for piece in pieces:
                came_at_s = time.monotonic()
                if number:
                    longest = max(longest, Gap(came_at_s - asked_at_s, came_at_s), key=lambda gap: gap.seconds)
                samples += piece
                number += 1
                if reader != "fast" and number == STALL_AT_MESSAGE:
                    self.reader_faults[f"{reader} reader"] += 1
                if reader == "slow":
                    await asyncio.sleep(SLOW_READ_S)
                elif reader == "stalled" and number == STALL_AT_MESSAGE:
                    await asyncio.sleep(STALL_S)
                asked_at_s = time.monotonic()
        return bytes(samples), longest

    async def _pieces(self, item: Item) -> AsyncGenerator[bytes, None]:
        """The samples as they come."""
        if item.way == "door":
            body = {"input": item.words, "seed": item.seed, "max_audio_seconds": item.most_s, "response_format": "pcm"}
            async with self._door.stream("POST", "/v1/audio/speech", json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise RefusedByDoor(answer.status_code, (await answer.aread()).decode(errors="replace"))
                async for piece in answer.aiter_raw():
                    yield piece
            return
        options: csm_client.StreamOptions = {"seed": item.seed, "max_seconds": item.most_s}
        if item.way == "text":
            words = [f"{word} " for word in item.words.split(" ")]
            stream = self._client.stream_synthesize_text(words, **options)
        else:
            stream = self._client.stream_synthesize(item.words, **options)
        async with stream:
            async for chunk in stream:
                yield chunk.audio_content
