"""The load: streams and texts with fixed seeds, and what came of each, compared with the undisturbed run."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import csm_client

from bench.chaos.refusals import Refusal

STREAM_S = 6.0
TEXT_S = 8.0
DEADLINE_S = 600.0  # a busy machine makes no stream fail
AT_ONCE = 4  # streams of the undisturbed run
RESUMES = 20  # of a lost gateway; faults are far more frequent here than a client's limit allows for
AGAIN_AFTER_S = 3.0  # after a refusal
SLOW_READ_S = 0.15  # wait of a slow reader before each message
LONG_GAP_S = 4.0  # is printed
STALL_S = 6.0  # of a stalled reader, once
STALL_AT_MESSAGE = 5

TEXTS = (
    "The harbour was quiet. Nobody had lit the lamps! Would the ferry come at all?",
    "She counted the steps. There were forty of them. At the top stood a door, half open.",
)
WORDS = ("A story that goes on.", "Rain fell on the roof all night long.", "Seven ships sailed on Sunday.")


@dataclass(frozen=True)
class Item:
    """One request of the load. The same item gives the same samples."""

    words: str
    seed: int
    is_text: bool  # comes in pieces


STREAM_ITEMS = [Item(words, seed, False) for seed, words in enumerate((*WORDS * 2, *TEXTS))]
TEXT_ITEMS = [Item(text, seed, True) for seed, text in enumerate(TEXTS, 100)]


@dataclass(frozen=True)
class Gap:
    """The longest wait of a stream between two messages of audio."""

    seconds: float
    ended_at_s: float  # on the monotonic clock


@dataclass
class Outcomes:
    """What came of all streams so far."""

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
    """Asks for the items one after the other and reads what comes, fast, slowly or with a stall."""

    def __init__(self, target: str) -> None:
        """target: of all gateways"""
        self.outcomes = Outcomes()
        self._client = csm_client.AsyncClient(target, timeout_s=DEADLINE_S, resumes=RESUMES)
        self._expected: dict[Item, str] = {}
        self.reader_faults: Counter[str] = Counter()

    async def close(self) -> None:
        await self._client.close()

    async def hear_undisturbed(self) -> None:
        """The run that later ones are compared with. Raises csm_client.CsmClientError when a stream fails."""
        everything = STREAM_ITEMS + TEXT_ITEMS
        for at in range(0, len(everything), AT_ONCE):
            items = everything[at : at + AT_ONCE]
            heard = await asyncio.gather(*(self._hear(item, "fast") for item in items))
            self._expected |= dict(zip(items, (digest for digest, _ in heard), strict=True))

    async def listen(self, items: list[Item], is_over: Callable[[], bool], readers: tuple[str, ...]) -> None:
        """One listener. readers: "fast", "slow" or "stalled", in turn"""
        for item, reader in zip(itertools.cycle(items), itertools.cycle(readers)):
            if is_over():
                return
            await self._take_down(item, reader)

    async def _take_down(self, item: Item, reader: str) -> None:
        name = f"{'text' if item.is_text else 'stream'} {item.seed}, {reader} reader"
        asked_at_s = time.monotonic()
        try:
            digest, gap = await self._hear(item, reader)
        except csm_client.ServerError as error:  # before the first sample
            self.outcomes.refusals.append(Refusal(name, error.reason, str(error), asked_at_s, time.monotonic()))
            await asyncio.sleep(AGAIN_AFTER_S)
        except csm_client.CsmClientError as error:
            cause = getattr(error.__cause__, "reason", "")
            self.outcomes.failed.append(f"{name}: {type(error).__name__} {cause}: {error}")
        else:
            if digest == self._expected[item]:
                self.outcomes.ok += 1
                self.outcomes.gaps.append(gap)
                if gap.seconds > LONG_GAP_S:
                    print(f"{name}: nothing for {gap.seconds:.1f} s until {gap.ended_at_s:.1f}", flush=True)
            else:
                self.outcomes.different.append(name)

    async def _hear(self, item: Item, reader: str) -> tuple[str, Gap]:
        """Digest of the samples, and the longest gap that was not the reader's own."""
        if item.is_text:
            stream = self._client.stream_synthesize_text(item.words, seed=item.seed, max_seconds=TEXT_S)
        else:
            stream = self._client.stream_synthesize(item.words, seed=item.seed, max_seconds=STREAM_S)
        digest = hashlib.sha256()
        longest, asked_at_s = Gap(0.0, 0.0), 0.0
        number = 0
        async with stream:
            async for chunk in stream:
                came_at_s = time.monotonic()
                if number:
                    longest = max(longest, Gap(came_at_s - asked_at_s, came_at_s), key=lambda gap: gap.seconds)
                digest.update(chunk.audio_content)
                number += 1
                if reader != "fast" and number == STALL_AT_MESSAGE:
                    self.reader_faults[f"{reader} reader"] += 1
                if reader == "slow":
                    await asyncio.sleep(SLOW_READ_S)
                elif reader == "stalled" and number == STALL_AT_MESSAGE:
                    await asyncio.sleep(STALL_S)
                asked_at_s = time.monotonic()
        return digest.hexdigest(), longest
