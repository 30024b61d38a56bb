"""Decodes the frames of one utterance. It fails over to another codec replica after a loss, and gives its decode slot
back while the caller takes nothing.

Both ways the stream continues in a new call, from the codec's last checkpoint at or before the last sample received,
else from the utterance's first frame. The samples are the same; those already received are dropped. It knows no engine
and no caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Protocol

import grpc
from csm.codec.v1 import codec_pb2

from services.common.outcomes import retrieve_exception
from services.gateway.stages.backends import Decodes, DescribesCodec
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import StageError, broken, other_model, unreachable
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodePacing, DecodeWindow, FrameBuffer
from services.gateway.synthesis.failover import Failovers
from services.gateway.synthesis.listener import Listener, Take

OLD_CODEC_AFTER_S = 5.0  # without `started` by then, the replica is taken for an older version that does not send it
CHECKPOINT_FRAMES = 5  # between two checkpoints; after a loss up to this many more frames are decoded again
MAX_PASSED = 32  # checkpoints kept, beside those of the frames that may be decoded ahead of the caller
MISFIT_REASONS = (  # of a codec of another bundle; the second before version 0.2; the third lacks the watermark key
    "CODEC_MISMATCH",
    "RESUME_INVALID",
    "WATERMARK_KEY_NOT_FOUND",
)
MAX_TAKEN_FRAMES = 10  # passed to the caller at once, so that its progress is seen in pieces of this size


class Codec(Decodes, DescribesCodec, Protocol):
    """The codec methods that a codec stream calls."""


class CodecStream:
    """One utterance of a clip. `run` is called once."""

    def __init__(
        self,
        request_id: str,
        catalog: Catalog,
        codec: Codec,
        pacing: DecodePacing,
        failovers: Failovers,
        clip: Clip,
        speed: float = 1.0,
    ) -> None:
        self._request_id, self._catalog, self._codec = request_id, catalog, codec
        self._pacing, self._failovers, self._clip, self._speed = pacing, failovers, clip, speed
        self._checkpoint = codec_pb2.StreamDecodeCheckpoint()  # where the next call begins
        self._later_checkpoints: deque[codec_pb2.StreamDecodeCheckpoint] = deque()  # after the last sample received
        self._passed: deque[codec_pb2.StreamDecodeCheckpoint] = deque(  # at or before it
            maxlen=MAX_PASSED + pacing.ahead_frames // CHECKPOINT_FRAMES
        )
        self._begin_sample = 0  # first sample to deliver
        self._window = self._new_window()
        self._offset = 0  # of the next sample of the current call

    def resume_at(self, checkpoint: codec_pb2.StreamDecodeCheckpoint, sample: int) -> None:
        """Delivers only samples from `sample` on. checkpoint: at or before it. To be called before `run`."""
        self._checkpoint, self._begin_sample = checkpoint, sample
        if checkpoint.state:
            self._passed.append(checkpoint)

    def checkpoint_before(self, sample: int) -> codec_pb2.StreamDecodeCheckpoint:
        """The last checkpoint at or before `sample`, else the start. `sample` must not decrease from call to call."""
        while len(self._passed) > 1 and self._passed[1].sample_offset <= sample:
            self._passed.popleft()
        if self._passed and self._passed[0].sample_offset <= sample:
            return self._passed[0]
        return codec_pb2.StreamDecodeCheckpoint()

    async def run(self, buffer: FrameBuffer, deadline: Deadline, take: Take) -> codec_pb2.WatermarkResult:
        """Decodes all frames, then advances the clip. The result covers the clip so far.

        Raises StageError, and what `take` raises.
        """
        listener = Listener(
            take,
            self._pacing.patience_s,
            MAX_TAKEN_FRAMES * self._catalog.frame_samples,
            lambda: self._window.taken(min(self._offset, listener.taken_samples)),
            self._begin_sample,
        )
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(listener.run())
                try:
                    complete = await self._decode(buffer, deadline, listener)
                except StageError as error:
                    if error.code is grpc.StatusCode.UNAVAILABLE:  # the caller still gets what was decoded
                        await listener.end()
                        await listening
                    raise
                await listener.end()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures.exceptions[0].__cause__
        self._clip.resume = complete.resume
        return complete.watermark

    async def close(self, deadline: Deadline) -> codec_pb2.WatermarkResult:
        """Ends the clip without another utterance and returns its watermark. To be called instead of `run`."""
        frames = FrameBuffer()
        frames.close()

        async def take_nothing(samples: bytes) -> None:
            return None

        return await self.run(frames, deadline, take_nothing)

    async def _decode(
        self, buffer: FrameBuffer, deadline: Deadline, listener: Listener
    ) -> codec_pb2.StreamDecodeComplete:
        """Decodes all frames, in as many calls as it takes: another one after a failure that allows it, and after the
        caller has caught up.
        """
        low_samples = max(1, self._pacing.ahead_frames * self._catalog.frame_samples // 2)
        while True:
            try:
                complete = await self._read_while_taken(buffer, deadline, listener)
            except StageError as error:
                if error.reason in MISFIT_REASONS:  # its message is for the gateway, not for the caller
                    error = other_model("CODEC")
                await self._failovers.wait_for_next_call(error, self._find_replica)
                continue
            if complete is not None:
                return complete
            self._pacing.report("given_back")
            self._failovers.has_listener = True  # even if the caller has taken nothing so far
            await listener.caught_up(low_samples)
            self._pacing.report("taken_again")

    async def _read_while_taken(
        self, buffer: FrameBuffer, deadline: Deadline, listener: Listener
    ) -> codec_pb2.StreamDecodeComplete | None:
        """One call. None if it was ended, and its slot given back, because the caller is behind."""
        reading = asyncio.create_task(self._read(buffer, deadline, listener))
        reading.add_done_callback(retrieve_exception)  # also when this task is cancelled while it waits for that one
        behind = asyncio.create_task(listener.behind())
        try:
            await asyncio.wait({reading, behind}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()
            behind.cancel()
            await asyncio.wait({reading, behind})

    async def _find_replica(self, wait_s: float) -> None:
        info = await self._codec.codec_info(wait_s, wait_for_ready=True)
        if info.codec != self._catalog.identity:  # asked first, for writes into a refused call could hide the refusal
            raise other_model("CODEC")

    async def _requests(
        self, buffer: FrameBuffer, window: DecodeWindow, first_frame: asyncio.Future[int]
    ) -> AsyncIterator[codec_pb2.StreamDecodeRequest]:
        """first_frame: set once frames may be sent. A write into a refused call could hide the refusal."""
        config = codec_pb2.StreamDecodeConfig(
            request_id=self._request_id,
            codec=self._catalog.identity,
            sample_format=codec_pb2.SAMPLE_FORMAT_S16LE,
            sample_rate_hertz=self._catalog.sample_rate_hz,
            # The same at every replica, even during a key rotation.
            watermark_key_id=self._clip.key_id or self._catalog.codec.active_key_id,
            resume=self._clip.resume,
            clip_continues=self._clip.continues,
            checkpoint_frame_count=CHECKPOINT_FRAMES,
            checkpoint=self._checkpoint.state,
            speed=self._speed,
            awaits_started=self._catalog.codec.sends_started,
            has_listener=self._failovers.has_listener,
        )
        yield codec_pb2.StreamDecodeRequest(config=config)
        if self._checkpoint.state:  # the codec may choose to begin earlier
            await asyncio.wait({first_frame})
        elif self._catalog.codec.sends_started:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(first_frame), OLD_CODEC_AFTER_S)
        start = first_frame.result() if first_frame.done() else 0
        async for frames in buffer.from_frame(start, is_over=lambda: window.is_released):
            await window.admit(frames.frame_count)
            yield codec_pb2.StreamDecodeRequest(frames=frames)

    async def _read(
        self, buffer: FrameBuffer, deadline: Deadline, listener: Listener
    ) -> codec_pb2.StreamDecodeComplete:
        """One call. Passes on only samples that no earlier call has returned."""
        self._advance_checkpoint(listener.put_samples)
        self._later_checkpoints.clear()  # this call sends them again
        window = self._window = self._new_window()
        first_frame: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        complete: codec_pb2.StreamDecodeComplete | None = None
        self._offset = 0
        try:
            requests = self._requests(buffer, window, first_frame)
            async with aclosing(self._codec.decode(requests, deadline.remaining_s)) as responses:
                async for response in responses:
                    self._failovers.answered("CODEC")
                    if not first_frame.done():
                        self._begin(response.started, window, listener.put_samples)
                        first_frame.set_result(response.started.first_frame_index)
                    match response.WhichOneof("event"):
                        case "audio":
                            await self._take_audio(response.audio, window, listener)
                        case "complete":
                            complete = response.complete
        finally:
            if not first_frame.done():
                first_frame.set_result(0)
            window.release()
            buffer.wake()  # ends the task that writes requests, which the end of the call does not cancel
        if complete is None:
            raise unreachable("CODEC")
        if complete.frame_count != buffer.frame_count:
            raise broken("CODEC", f"it decoded {complete.frame_count} of {buffer.frame_count} frames.")
        if not complete.sample_count == self._offset == listener.put_samples:
            raise broken("CODEC", f"it counts {complete.sample_count} samples; {listener.put_samples} were received.")
        return complete

    async def _take_audio(self, audio: codec_pb2.AudioSamples, window: DecodeWindow, listener: Listener) -> None:
        """Passes the new samples on, and keeps the checkpoint."""
        if audio.sample_offset != self._offset or len(audio.samples) != 2 * audio.sample_count:
            raise broken("CODEC", f"audio at {audio.sample_offset} is not what follows.")
        self._offset += audio.sample_count
        if audio.HasField("checkpoint"):
            # A copy, for a submessage keeps the whole message in memory, its samples included.
            checkpoint = codec_pb2.StreamDecodeCheckpoint()
            checkpoint.CopyFrom(audio.checkpoint)
            self._later_checkpoints.append(checkpoint)
        await listener.put(audio.samples[2 * max(0, listener.put_samples - audio.sample_offset) :])
        window.taken(min(self._offset, listener.taken_samples))
        self._advance_checkpoint(listener.put_samples)

    def _new_window(self) -> DecodeWindow:
        return DecodeWindow(self._pacing.ahead_frames, self._held_samples, self._catalog.frame_samples / self._speed)

    @property
    def _held_samples(self) -> float:
        """Most output samples that the codec holds back by design."""
        codec = self._catalog.codec
        stretch_samples = codec.stretch_sample_count / self._speed if self._speed != 1 else 0
        return codec.latency_sample_count + stretch_samples

    def _begin(self, started: codec_pb2.StreamDecodeStarted, window: DecodeWindow, received_samples: int) -> None:
        """Records where the call begins. A codec of a version without checkpoints begins at 0."""
        first_frame, offset = started.first_frame_index, started.sample_offset
        if first_frame > self._checkpoint.first_frame_index or offset > received_samples:
            raise broken("CODEC", f"it begins at frame {first_frame} and sample {offset}.")
        self._offset = offset
        window.begin(first_frame, offset)

    def _advance_checkpoint(self, received_samples: int) -> None:
        """Chooses the last checkpoint at or before the last sample received."""
        later = self._later_checkpoints
        while later and later[0].sample_offset <= received_samples:
            self._checkpoint = later.popleft()
            self._passed.append(self._checkpoint)
