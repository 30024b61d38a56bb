"""Makes each prompt once and holds it. It knows no codec.

A prompt goes on being made when the calls that wait for it end: if all deadlines are shorter than it takes, no call
with the voice would ever succeed. Few prompts are made for no call, so that they hold up those of waiting calls little.
One that takes very long may never be made, because a codec can hang while its connection stays open. So the next call
begins it again, probably at another codec, while the first one goes on. All calls get what is made first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.common.outcomes import is_task_cancelled, retrieve_exception
from services.gateway.stages.catalog import Catalog
from services.gateway.voices.prompts import BrokenPromptError
from services.gateway.voices.voice import Prompt, identity_values

MAX_HELD = 256  # 24 KB each for 30 s of 32 codebooks
MAX_LEFT = 2  # prompts that are made while no call waits for them
MAKING_S = 300.0  # longest time for each step of making one
LATE_S = 60.0  # after which the next call begins it again
BROKEN_S = 60.0  # how long a broken prompt is not read again

_Key = tuple[str, str]


@dataclass(slots=True)
class _Broken:
    until_s: float
    why: str
    is_new: bool = True


@dataclass(slots=True, eq=False)
class _Making:
    key: _Key
    task: asyncio.Task[Prompt]
    late_at_s: float
    num_waiting: int = 0  # calls


class PromptCache:
    """Prompts by their digest and the codec. All calls for the same prompt wait for one task that makes it."""

    def __init__(self) -> None:
        self._held: OrderedDict[_Key, Prompt] = OrderedDict()
        self._broken: OrderedDict[_Key, _Broken] = OrderedDict()
        self._making: dict[_Key, _Making] = {}  # the newest for each prompt
        self._running: set[_Making] = set()  # late ones too

    async def get(self, digest: str, catalog: Catalog, make: Callable[[], Awaitable[Prompt]]) -> Prompt:
        """The cached prompt, else what `make` returns, which takes at most MAKING_S for each step.

        A BrokenPromptError is cached too, for BROKEN_S. After any other failure each call that waits tries it itself.
        """
        key = (digest, str(identity_values(catalog.identity)))
        while True:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            self._raise_if_broken(key)
            making = self._making.get(key)
            is_mine = making is None or time.monotonic() >= making.late_at_s
            if making is None or is_mine:
                making = self._begin(key, make)
            try:
                return await self._wait(making)
            except BrokenPromptError:
                continue  # it is raised from the cache
            except asyncio.CancelledError:
                if is_task_cancelled() or key not in self._held:
                    raise
                continue  # another one has made it
            except Exception:
                if is_mine:
                    raise

    def close(self) -> None:
        """Stops making prompts."""
        for making in self._running:
            making.task.cancel()

    def _begin(self, key: _Key, make: Callable[[], Awaitable[Prompt]]) -> _Making:
        async def run() -> Prompt:
            try:
                prompt = self._held[key] = await make()
                _limit(self._held)
                for other in [each for each in self._running if each.key == key and each is not making]:
                    self._forget(other)
                    other.task.cancel()
                return prompt
            except BrokenPromptError as error:
                self._broken[key] = _Broken(time.monotonic() + BROKEN_S, str(error))
                self._broken.move_to_end(key)
                _limit(self._broken)
                raise
            finally:
                self._forget(making)

        making = self._making[key] = _Making(key, asyncio.create_task(run()), time.monotonic() + LATE_S)
        making.task.add_done_callback(retrieve_exception)
        self._running.add(making)
        return making

    def _forget(self, making: _Making) -> None:
        self._running.discard(making)
        if self._making.get(making.key) is making:
            del self._making[making.key]

    async def _wait(self, making: _Making) -> Prompt:
        making.num_waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.num_waiting -= 1
            if sum(not each.num_waiting for each in self._running) > MAX_LEFT:
                self._forget(making)
                making.task.cancel()  # the others have come further

    def _raise_if_broken(self, key: _Key) -> None:
        broken = self._broken.get(key)
        if broken is not None and time.monotonic() < broken.until_s:
            is_new, broken.is_new = broken.is_new, False
            raise BrokenPromptError(broken.why, is_new=is_new)


def _limit(held: OrderedDict[_Key, Prompt] | OrderedDict[_Key, _Broken]) -> None:
    while len(held) > MAX_HELD:
        held.popitem(last=False)
