"""The codec for asyncio: one callback per step takes the outputs of all streams from the codec thread to their queues.

It knows no gRPC. The code that opens a stream must close it, which frees the slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

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
    """Owns the codec thread. All methods are called on the event loop."""

    def __init__(
        self,
        codec: Codec,
        *,
        max_waiting: int = 0,
        on_step: Callable[[Sequence[Output], float], None] = lambda outputs, seconds: None,
        on_end: Callable[[DecodeStream, Complete | Failed | None], None] = lambda stream, end: None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        on_stall: OnStall = lambda thread, stalled: None,
        stall_s: float = 2.5,
        background: Background | None = None,
    ) -> None:
        """max_waiting: streams that may wait for a slot; on_stall, stall_s: see Watchdog.

        Callbacks, all on the event loop: on_step with each step's outputs and its seconds; on_end once for each stream,
        with its last output, or None if it is closed before; on_failure once if the codec fails.
        """
        self.admission = Admission(codec.num_slots, max_waiting)
        self._loop = asyncio.get_running_loop()
        self._handles: dict[DecodeStream, StreamHandle] = {}
        self._on_step, self._on_end, self._on_failure = on_step, on_end, on_failure
        self._stop_message = ""  # the error of streams after the codec has stopped or failed
        self.thread = CodecThread(
            codec,
            deliver=lambda outputs, seconds: post(self._loop, self._fan_out, outputs, seconds),
            fail=lambda error: post(self._loop, self._fail, error),
        )
        self.thread.start()
        self.watchdog = Watchdog(
            self.thread.worker,
            on_beat=self._beat_streams,
            on_stall=on_stall,
            stall_s=stall_s,
            background=background or Background(),
        )

    async def open(self, options: DecodeOptions = DEFAULTS, *, has_listener: bool = False) -> StreamHandle:
        """Waits for a slot and takes it. has_listener: see Admission. Raises as `Codec.open`, and CodecStoppedError."""
        await self.admission.take(has_listener=has_listener)
        opened = self.thread.open(options)
        try:
            stream = await asyncio.wrap_future(opened)
        except BaseException:
            opened.add_done_callback(lambda opened: post(self._loop, self._give_back, opened))
            raise
        handle = StreamHandle(self, stream)
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
            self.thread.cancel(stream)  # queued before the opening of the next stream, which `leave` admits
            self.admission.leave()
            if not handle.has_end:
                self._on_end(stream, None)

    async def stop(self) -> None:
        """Ends the thread; streams that are still open get CodecStoppedError."""
        self.watchdog.stop()
        await asyncio.to_thread(self.thread.stop)
        self._end_streams("The codec has stopped.")

    def _give_back(self, opened: Future[DecodeStream]) -> None:
        """Frees the slot of a stream that failed to open, or whose opener was cancelled."""
        if not opened.cancelled() and opened.exception() is None:
            self.thread.cancel(opened.result())  # before the next stream is admitted, as in `close`
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

    def _beat_streams(self) -> None:
        for handle in self._handles.values():
            handle.outputs.beat()

    def _fail(self, error: BaseException) -> None:
        self._end_streams("The codec has failed.")
        self._on_failure(error)

    def _end_streams(self, message: str) -> None:
        self._stop_message = message
        for handle in self._handles.values():
            handle.fail(CodecStoppedError(message))


class StreamHandle:
    """One stream's input and output: one task pushes frames, another one takes outputs."""

    def __init__(self, async_codec: AsyncCodec, stream: DecodeStream) -> None:
        self.stream = stream
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
            self._async_codec.thread.push(self.stream, codes[:room])
            self._pushed_frames += len(codes[:room])
            codes = codes[room:]

    def finish(self) -> None:
        """No more frames will come."""
        self._async_codec.thread.finish(self.stream)

    async def take(self, at_least: int = 1) -> list[Audio | Complete]:
        """Waits for outputs, and returns all that are there. Raises the stream's failure after its last output.

        at_least: outputs to wait for; frames that were not pushed yet are not waited for
        Fewer, or none, when nothing has come for two beats although the codec thread is alive (watchdog.py).
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
