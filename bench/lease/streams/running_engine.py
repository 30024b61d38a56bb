"""An engine with random weights on its own thread, as in the engine stage, and what its streams received.

No network and no codec: a stream's frame has arrived when the engine delivers it.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.lease.forms import new_step, new_weights
from bench.lease.options import Given
from csm_engine.config import EngineConfig
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.loop.engine import Engine, Output
from csm_engine.loop.engine_thread import EngineThread
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import Codes, FinishReason, GenerationRequest
from tests.support.tiny.tokenizer import byte_tokenizer

DRAIN_TIMEOUT_S = 30.0


@dataclass(eq=False, slots=True)
class Stream:
    """One request and when its frames arrived, in seconds of the monotonic clock."""

    request: GenerationRequest
    asked_at_s: float
    sequence: Future[Sequence] | None = None
    arrived_at_s: list[float] = field(default_factory=list)
    frames: list[Codes] = field(default_factory=list)  # (K,) each
    ended_at_s: float | None = None
    finish_reason: FinishReason | None = None
    done: threading.Event = field(default_factory=threading.Event)


class RunningEngine:
    """Takes requests, and records each stream. Only one thread may call `ask` and `clear`."""

    def __init__(self, engine: Engine) -> None:
        self.steps = 0  # deliveries with frames
        self.rows = 0  # frames delivered
        self.error: BaseException | None = None
        self._streams: dict[str, Stream] = {}
        self._engine = engine
        self._thread = EngineThread(engine, self._deliver, self._fail)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def ask(self, request: GenerationRequest) -> Stream:
        """Raises: the engine's error, once it has failed."""
        if self.error is not None:
            raise self.error
        stream = self._streams[request.request_id] = Stream(request, time.monotonic())
        stream.sequence = self._thread.add(self._engine.prepare(request))
        return stream

    def abort(self, stream: Stream) -> None:
        """Ends a stream, if it runs. It gets no more frames."""
        if stream.ended_at_s is None and stream.sequence is not None and stream.sequence.exception() is None:
            self._thread.abort(stream.sequence.result())

    def clear(self) -> None:
        """Aborts what still runs and returns when the engine is idle. Raises: TimeoutError after 30 s."""
        for stream in list(self._streams.values()):
            self.abort(stream)
        until = time.monotonic() + DRAIN_TIMEOUT_S
        while any(self._thread.load()):
            if time.monotonic() > until:
                raise TimeoutError(f"(running, waiting) is still {self._thread.load()} after {DRAIN_TIMEOUT_S} s")
            time.sleep(0.01)
        self._streams.clear()

    def _deliver(self, outputs: list[Output]) -> None:
        now, made = time.monotonic(), 0
        for output in outputs:
            stream = self._streams.get(output.sequence.request.request_id)
            if output.frame is not None:
                made += 1
                if stream is not None:
                    stream.arrived_at_s.append(now)
                    stream.frames.append(output.frame)
            if output.finish_reason is not None and stream is not None:
                stream.ended_at_s, stream.finish_reason = now, output.finish_reason
                stream.done.set()
        self.rows += made
        self.steps += made > 0

    def _fail(self, error: BaseException) -> None:
        self.error = error
        for stream in list(self._streams.values()):
            stream.done.set()


@contextmanager
def running_engine(given: Given, form: str, config: EngineConfig) -> Iterator[RunningEngine]:
    """Captures every bucket first. Yields the engine, and stops it."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = byte_tokenizer(Path(folder), given.model.text_vocab_size)
    weights = new_weights(given, form, config.slots)
    step = new_step(weights, form, config.total_slots)
    runner = GraphRunner(step, config.slots, prefill_rows=config.prefill_chunk)
    running = RunningEngine(Engine(runner, tokenizer, config))
    running.start()
    try:
        yield running
    finally:
        running.stop()
