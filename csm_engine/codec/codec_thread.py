"""The one thread that drives the codec. Others open streams and hand in codes; it hands back each tick's outputs.

Nothing here polls: the thread sleeps until there is work. Outputs go to one callback per tick, for all streams.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from csm_engine.codec.codec import Codec
from csm_engine.codec.codes import Codes
from csm_engine.codec.stream import DecodeStream, Output
from csm_engine.errors import CodecStoppedError

logger = logging.getLogger(__name__)

Deliver = Callable[[list[Output], float], None]
Fail = Callable[[BaseException], None]


class CodecThread:
    """Runs `codec.step` whenever there is work.

    deliver: called on the codec's thread with the outputs of one tick and the seconds that it took.
    fail: called once on the codec's thread if a tick raises; every stream is lost then.
    """

    def __init__(self, codec: Codec, deliver: Deliver, fail: Fail) -> None:
        self._codec, self._deliver, self._fail = codec, deliver, fail
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="codec", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the running tick and joins the thread. Open streams get no more outputs."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def num_streams(self) -> int:
        return self._codec.num_streams

    def open(self, key_id: str = "") -> Future[DecodeStream]:
        """A future of the stream, or of CodecBusyError, KeyringError, CodecStoppedError.

        The future is resolved on the codec's thread. If it was cancelled by then, no seat is taken.
        """
        future: Future[DecodeStream] = Future()

        def open_stream() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(self._codec.open(key_id))
            except Exception as error:
                future.set_exception(error)

        if not self._submit(open_stream):
            future.set_exception(CodecStoppedError("The codec has stopped."))
        return future

    def push(self, stream: DecodeStream, codes: Codes) -> None:
        """Queues frames, (frames, codebooks), checked before."""
        self._submit(lambda: self._codec.push(stream, codes))

    def finish(self, stream: DecodeStream) -> None:
        self._submit(lambda: self._codec.finish(stream))

    def cancel(self, stream: DecodeStream) -> None:
        """Frees the seat before the next tick. May be called for a stream that has ended."""
        self._submit(lambda: self._codec.cancel(stream))

    def _submit(self, command: Callable[[], None]) -> bool:
        with self._wake:
            if self._stopped:
                return False
            self._commands.append(command)
            self._wake.notify()
            return True

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                started_s = time.perf_counter()
                outputs = self._codec.step()
                if outputs:
                    self._deliver(outputs, time.perf_counter() - started_s)
        except BaseException as error:
            logger.exception("the codec failed")
            with self._wake:
                self._stopped = True
            self._run_commands()
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Runs the commands that have come in; false when the loop shall end."""
        with self._wake:
            while not (self._stopped or self._commands or self._codec.has_work):
                self._wake.wait()
        self._run_commands()
        return not self._stopped

    def _run_commands(self) -> None:
        while self._commands:
            self._commands.popleft()()
