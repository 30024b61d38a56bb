"""The codecs for asyncio: one callback per step takes the outputs of all streams from a codec's thread to their queues.

A stream goes to the thread that has the fewest streams, if it is alive. It knows no gRPC. The code that opens a stream
must close it, which frees the slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from csm_bundle.errors import CodecError, CodecStoppedError
from csm_codec.codec import Codec
from csm_codec.codec_thread import CodecThread
from csm_codec.codes import CheckedCodes
from csm_codec.stream import DEFAULTS, Audio, Complete, DecodeOptions, DecodeStream, Failed, Output
from services.codec.admission import Admission
from services.common.background import Background
from services.common.outcomes import post
from services.common.watchdog import OnStall, Watchdog, WatchedOutputs

MAX_AHEAD_FRAMES = 64  # frames of a stream whose output is not taken yet


class AsyncCodec:
    """Owns a thread for each codec. All methods are called on the event loop."""

    def __init__(
        self,
        codecs: Sequence[Codec],
        *,
        torch_threads: int | None = None,
        max_waiting: int = 0,
        on_step: Callable[[Sequence[Output], float], None] = lambda outputs, seconds: None,
        on_end: Callable[[DecodeStream, Complete | Failed | None], None] = lambda stream, end: None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        on_stall: OnStall = lambda thread, stalled: None,
        stall_s: float = 2.5,
        background: Background | None = None,
    ) -> None:
        """codecs: over the same weights. torch_threads: in each one's thread, see CodecThread. max_waiting: streams
        that may wait for a slot. on_stall, stall_s: see Watchdog

        Callbacks, all on the event loop: on_step with each step's outputs and its seconds; on_end once for each stream,
        with its last output, or None if it is closed before; on_failure once if the codec fails.
        """
        self.admission = Admission(sum(codec.num_slots for codec in codecs), max_waiting)
        self._loop = asyncio.get_running_loop()
        self._handles: dict[DecodeStream, StreamHandle] = {}
        self._on_step, self._on_end, self._on_failure = on_step, on_end, on_failure
        self._stop_message = ""  # the error of streams after the codec has stopped or failed
        background = background or Background()
        self.threads = [
            CodecThread(
                codec,
                deliver=lambda outputs, seconds: post(self._loop, self._fan_out, outputs, seconds),
                fail=lambda error: post(self._loop, self._fail, error),
                name=f"codec {number}" if len(codecs) > 1 else "codec",
                torch_threads=torch_threads,
            )
            for number, codec in enumerate(codecs)
        ]
        self._num_admitted = dict.fromkeys(self.threads, 0)  # streams that are open, or about to be, by thread
        for thread in self.threads:
            thread.start()
        self._watchdogs = {
            thread: Watchdog(
                thread.worker,
                on_beat=partial(self._beat_streams, thread),
                on_stall=on_stall,
                stall_s=stall_s,
                background=background,
            )
            for thread in self.threads
        }

    def is_alive(self, opening: Opening) -> bool:
        """Whether what a stream waits for goes on: its thread, or before it has one, any that may free a slot."""
        threads = self.threads if opening.thread is None else [opening.thread]
        return any(self._watchdogs[thread].worker_is_alive for thread in threads)

    @property
    def num_streams(self) -> int:
        """Streams that have a slot."""
        return sum(thread.num_streams for thread in self.threads)

    async def open(
        self, options: DecodeOptions = DEFAULTS, *, has_listener: bool = False, opening: Opening | None = None
    ) -> StreamHandle:
        """Waits for a slot and takes it. has_listener: see Admission. opening: says what is waited for

        Raises as `Codec.open`, and CodecStoppedError.
        """
        await self.admission.take(has_listener=has_listener)
        thread = self._choose_thread()
        if opening is not None:
            opening.thread = thread
        self._num_admitted[thread] += 1
        opened = thread.open(options)
        try:
            stream = await asyncio.wrap_future(opened)
        except BaseException:
            opened.add_done_callback(lambda opened: post(self._loop, self._give_back, thread, opened))
            raise
        handle = StreamHandle(self, thread, stream)
        self._handles[stream] = handle
        # What happened before the handle was registered has not reached it.
        if self._stop_message:
            handle.fail(CodecStoppedError(self._stop_message))
        elif stream.ended:
            self._put(handle, Failed(stream, CodecError("The codec failed in this stream's batch.")))
        return handle

    def close(self, stream: DecodeStream) -> None:
        """Frees the slot. A second call, or one after the end, has no effect."""
        if (handle := self._handles.pop(stream, None)) is not None:
            handle.thread.cancel(stream)  # queued before the opening of the next stream, which `leave` admits
            self._leave(handle.thread)
            if not handle.has_end:
                self._on_end(stream, None)

    async def stop(self) -> None:
        """Ends the threads; streams that are still open get CodecStoppedError."""
        for watchdog in self._watchdogs.values():
            watchdog.stop()
        pool = ThreadPoolExecutor(len(self.threads))  # one wait, also if all hang and are more than asyncio's own pool
        waits = [self._loop.run_in_executor(pool, thread.stop) for thread in self.threads]
        pool.shutdown(wait=False)
        await asyncio.gather(*waits)
        self._end_streams("The codec has stopped.")

    def _choose_thread(self) -> CodecThread:
        """Of those with a free slot the one with the fewest streams, or the fewest of those that are alive."""

        def order(thread: CodecThread) -> tuple[bool, bool, int]:
            num_admitted = self._num_admitted[thread]
            return num_admitted >= thread.num_slots, not self._watchdogs[thread].worker_is_alive, num_admitted

        return min(self.threads, key=order)

    def _give_back(self, thread: CodecThread, opened: Future[DecodeStream]) -> None:
        """Frees the slot of a stream that failed to open, or whose opener was cancelled."""
        if not opened.cancelled() and opened.exception() is None:
            thread.cancel(opened.result())  # before the next stream is admitted, as in `close`
        self._leave(thread)

    def _leave(self, thread: CodecThread) -> None:
        self._num_admitted[thread] -= 1
        self.admission.leave()

    def _fan_out(self, outputs: Sequence[Output], seconds: float) -> None:
        for output in outputs:
            if handle := self._handles.get(output.stream):
                self._put(handle, output)
        self._on_step(outputs, seconds)

    def _put(self, handle: StreamHandle, output: Output) -> None:
        handle.put(output)
        if not isinstance(output, Audio):
            self._on_end(output.stream, output)

    def _beat_streams(self, thread: CodecThread) -> None:
        for handle in self._handles.values():
            if handle.thread is thread:
                handle.outputs.beat()

    def _fail(self, error: BaseException) -> None:
        self._end_streams("The codec has failed.")
        self._on_failure(error)

    def _end_streams(self, message: str) -> None:
        self._stop_message = message
        for handle in self._handles.values():
            handle.fail(CodecStoppedError(message))


class Opening:
    """What a stream waits for until it is open."""

    thread: CodecThread | None = None  # None while it waits for a slot of any thread


class StreamHandle:
    """One stream's input and output: one task pushes frames, another one takes outputs."""

    def __init__(self, async_codec: AsyncCodec, thread: CodecThread, stream: DecodeStream) -> None:
        self.thread, self.stream = thread, stream
        self.has_end = False  # whether the last output has come
        self._async_codec = async_codec
        self.outputs = WatchedOutputs[Audio | Complete]()
        self._room = asyncio.Event()
        self._pushed_frames = self._taken_frames = stream.start.first_frame

    async def push(self, codes: CheckedCodes) -> None:
        """Passes frames to the codec. Waits while MAX_AHEAD_FRAMES are in flight."""
        while len(codes):
            room = MAX_AHEAD_FRAMES - (self._pushed_frames - self._taken_frames)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            self.thread.push(self.stream, codes[:room])
            self._pushed_frames += len(codes[:room])
            codes = codes[room:]

    def finish(self) -> None:
        """No more frames will come."""
        self.thread.finish(self.stream)

    async def take(self, at_least: int = 1) -> list[Audio | Complete]:
        """Waits for outputs, and returns all that are there. Raises the stream's failure after its last output.

        at_least: outputs to wait for; frames that were not pushed yet are not waited for
        Fewer, or none, when nothing has come for two beats although the stream's thread is alive (watchdog.py).
        """
        outputs = await self.outputs.take(max(1, min(at_least, self._pushed_frames - self._taken_frames)))
        for output in outputs:
            if isinstance(output, Audio):
                self._taken_frames = output.num_frames
                self._room.set()
        return outputs

    def put(self, output: Output) -> None:
        self.has_end = not isinstance(output, Audio)
        if isinstance(output, Failed):
            self.fail(output.error)
        else:
            self.outputs.put(output, is_last=self.has_end)

    def fail(self, error: Exception) -> None:
        """Makes `take` raise the error, after the outputs that are there already."""
        self.outputs.fail(error)

    def close(self) -> None:
        """Frees the slot. It may be called twice, or after the end."""
        self._async_codec.close(self.stream)
