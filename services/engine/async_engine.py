"""Between the engine thread and asyncio: one hand-over per step for the whole batch, one queue per sequence.

It knows no gRPC. The code that opens a stream must close it. Closing frees the slot, however the reader ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from csm_bundle.errors import EngineStoppedError
from csm_engine.loop.engine import Engine, Output
from csm_engine.loop.engine_thread import EngineThread
from csm_engine.model.prompt import Read, as_written
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import GenerationRequest
from services.common.background import Background
from services.common.outcomes import post
from services.common.watchdog import OnStall, Watchdog, WatchedOutputs
from services.engine.text_reader import TextReader

_RATE_WINDOW_S = 5.0


class AsyncEngine:
    """Owns the engine thread. All methods are called on the event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        on_step: Callable[[list[Output]], None] = lambda outputs: None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        on_stall: OnStall = lambda thread, stalled: None,
        stall_s: float = 2.5,
        reading_stall_s: float = 60.0,
        background: Background | None = None,
    ) -> None:
        """on_step: sees each step's outputs; on_failure: called once if the engine fails; on_stall: see Watchdog. All
        on the loop. stall_s, reading_stall_s: of the engine's thread and of the one that reads texts
        """
        background = background or Background()
        self.engine = engine
        loop = asyncio.get_running_loop()
        self._streams: dict[Sequence, SequenceStream] = {}  # of sequences that have not ended
        # A token for each accepted request that is not in the engine's queue yet, by `has_listener`.
        self._pending: dict[bool, set[object]] = {False: set(), True: set()}
        self._on_step = on_step
        self._on_failure = on_failure
        self._recent: deque[tuple[float, int]] = deque()  # (time, frames) of the last seconds
        self.thread = EngineThread(
            engine,
            deliver=lambda outputs: post(loop, self._fan_out, outputs),
            fail=lambda error: post(loop, self._fail, error),
        )
        self.thread.start()
        self.watchdog = Watchdog(
            self.thread.worker, on_beat=self._beat_streams, on_stall=on_stall, stall_s=stall_s, background=background
        )
        self._reader = TextReader(
            on_failure=self._fail, on_stall=on_stall, stall_s=reading_stall_s, background=background
        )

    async def open(self, request: GenerationRequest, read: Read = as_written) -> SequenceStream:
        """Reads the request's texts in another thread, then queues it.

        read: the text front end, applied to each text before the tokenizer.
        A full queue refuses a request before its texts are read. Of a context only what fits into the window is read.
        An accepted request keeps its place in the queue, also while later ones are read before it.

        Raises: InvalidRequestError (before EngineBusyError, unless it depends on the length of the texts);
        EngineBusyError; ReadingStalledError if the thread hangs at the texts; EngineStoppedError.
        """
        self.engine.check(request)
        with self._pending_place(request) as give_up_place:
            sequence = await self._reader.read(request, lambda: self.engine.prepare(request, read))
            stream = self._streams[sequence] = SequenceStream(self, sequence)
            try:
                await asyncio.wrap_future(self.thread.add(sequence, give_up_place))
            except BaseException:
                stream.close()
                raise
        return stream

    @contextmanager
    def _pending_place(self, request: GenerationRequest) -> Iterator[Callable[[], None]]:
        """Keeps a place in the engine's queue for the request while its texts are read.

        Yields a function that gives the place up. Any thread may call it: the engine's thread does when it queues the
        request, so that the request is not counted twice. Raises: EngineBusyError if there is no place.
        """
        pending, place = self._pending[request.has_listener], object()
        self.engine.check_room(pending, has_listener=request.has_listener)
        pending.add(place)
        give_up_place = partial(pending.discard, place)
        try:
            yield give_up_place
        finally:
            give_up_place()

    def free(self, sequence: Sequence) -> None:
        """Ends the sequence wherever it is. It may be called twice, or after the end."""
        if self._streams.pop(sequence, None) is not None:
            self.thread.abort(sequence)

    def frame_rate(self) -> float:
        """Frames a second over the last seconds, all sequences."""
        self._drop_old()
        return sum(frames for _, frames in self._recent) / _RATE_WINDOW_S

    async def stop(self) -> None:
        """Ends the threads; streams that are still open get EngineStoppedError."""
        self.watchdog.stop()
        await asyncio.gather(asyncio.to_thread(self.thread.stop), self._reader.stop())
        self._end_streams("the engine has stopped")

    def _fan_out(self, outputs: list[Output]) -> None:
        self._recent.append((time.monotonic(), sum(output.frame is not None for output in outputs)))
        self._drop_old()
        for output in outputs:
            is_last = output.finish_reason is not None
            find = self._streams.pop if is_last else self._streams.get
            if stream := find(output.sequence, None):
                stream.outputs.put(output, is_last=is_last)
        self._on_step(outputs)

    def _beat_streams(self) -> None:
        for stream in self._streams.values():
            stream.outputs.beat()

    def _fail(self, error: BaseException) -> None:
        self._end_streams("the engine has failed")
        self._on_failure(error)

    def _end_streams(self, message: str) -> None:
        self._reader.end(message)
        for stream in self._streams.values():
            stream.outputs.fail(EngineStoppedError(message))

    def _drop_old(self) -> None:
        while self._recent and self._recent[0][0] < time.monotonic() - _RATE_WINDOW_S:
            self._recent.popleft()


class SequenceStream:
    """One sequence's outputs, for one reader."""

    def __init__(self, async_engine: AsyncEngine, sequence: Sequence) -> None:
        self.sequence = sequence
        self.outputs = WatchedOutputs[Output]()
        self._async_engine = async_engine

    async def next(self, at_least: int = 1, at_most: int = 1) -> list[Output]:
        """The next outputs: `at_least` as many as are waited for, `at_most` as are taken of those that are there.

        The last output of the sequence ends the wait. So do two beats of the watchdog, which come only while the
        engine thread goes round: the list is then shorter than `at_least`, and may be empty.

        Raises: EngineStoppedError, after the outputs that were there.
        """
        return await self.outputs.take(at_least, at_most)

    def close(self) -> None:
        """Frees the slot. It may be called twice, or after the end."""
        self._async_engine.free(self.sequence)
