"""Decodes the frames of one utterance, with failover to another codec replica.

It knows no engine and no caller. After a loss the stream starts again at the utterance's first frame, with the clip's
state from before the utterance. The samples come out the same; those already taken are dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Protocol

from csm.codec.v1 import codec_pb2

from services.gateway.stages.backends import Decodes, DescribesCodec
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import StageError, broken, other_model, unreachable
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodeWindow, FrameBuffer
from services.gateway.synthesis.failover import Failovers

OLD_CODEC_AFTER_S = 5.0  # without `started` by then, the replica may be an older version that does not send it

Take = Callable[[bytes], Awaitable[None]]  # takes the next 16-bit samples, possibly none; returns when there is room


class Decoder(Decodes, DescribesCodec, Protocol):
    """The codec methods that a codec stream calls."""


class CodecStream:
    """One utterance of a clip. `run` is called once."""

    def __init__(
        self,
        request_id: str,
        catalog: Catalog,
        codec: Decoder,
        decode_ahead_frames: int,
        failovers: Failovers,
        clip: Clip,
        speed: float = 1.0,
    ) -> None:
        self._request_id, self._catalog, self._codec = request_id, catalog, codec
        self._decode_ahead_frames, self._failovers, self._clip = decode_ahead_frames, failovers, clip
        self._speed = speed
        self._taken_samples = 0  # each sample counts once, also after a failover

    async def run(self, buffer: FrameBuffer, deadline: Deadline, take: Take) -> codec_pb2.WatermarkResult:
        """Decodes all frames, then advances the clip. The result covers the clip so far.

        Raises StageError, and what `take` raises.
        """
        while True:
            try:
                complete = await self._read(buffer, deadline, take)
                break
            except StageError as error:
                await self._failovers.prepare(error, deadline.remaining_s, self._find_replica)
        self._clip.resume = complete.resume
        return complete.watermark

    async def close(self, deadline: Deadline) -> codec_pb2.WatermarkResult:
        """Ends the clip without another utterance: the codec reports its watermark result. Called instead of `run`."""
        frames = FrameBuffer()
        frames.close()

        async def take_nothing(samples: bytes) -> None:
            return None

        return await self.run(frames, deadline, take_nothing)

    async def _find_replica(self, wait_s: float) -> None:
        info = await self._codec.codec_info(wait_s, wait_for_ready=True)
        if info.codec != self._catalog.identity:  # it would refuse the call, and our writes could hide the refusal
            raise other_model("CODEC")

    async def _requests(
        self, buffer: FrameBuffer, window: DecodeWindow, has_slot: asyncio.Event
    ) -> AsyncIterator[codec_pb2.StreamDecodeRequest]:
        """has_slot: set once frames may be sent. A write into a refused call would hide the refusal."""
        config = codec_pb2.StreamDecodeConfig(
            request_id=self._request_id,
            codec=self._catalog.identity,
            sample_format=codec_pb2.SAMPLE_FORMAT_S16LE,
            sample_rate_hertz=self._catalog.sample_rate_hz,
            watermark_key_id=self._catalog.codec.active_key_id,  # the same at every replica, even during a key rotation
            resume=self._clip.resume,
            clip_continues=self._clip.continues,
            speed=self._speed,
        )
        yield codec_pb2.StreamDecodeRequest(config=config)
        if self._catalog.codec.sends_started:
            with suppress(TimeoutError):
                await asyncio.wait_for(has_slot.wait(), OLD_CODEC_AFTER_S)
        async for frames in buffer:
            await window.admit(frames.frame_count)
            yield codec_pb2.StreamDecodeRequest(frames=frames)

    async def _read(self, buffer: FrameBuffer, deadline: Deadline, take: Take) -> codec_pb2.StreamDecodeComplete:
        """Decodes from frame 0 and takes only the samples that no earlier call has returned."""
        catalog = self._catalog
        window = DecodeWindow(self._decode_ahead_frames, self._held_samples, catalog.frame_samples / self._speed)
        has_slot = asyncio.Event()
        complete: codec_pb2.StreamDecodeComplete | None = None
        offset = 0
        try:
            requests = self._requests(buffer, window, has_slot)
            async with aclosing(self._codec.decode(requests, deadline.remaining_s)) as responses:
                async for response in responses:
                    has_slot.set()
                    self._failovers.answered("CODEC")
                    match response.WhichOneof("event"):
                        case "audio":
                            audio = response.audio
                            if audio.sample_offset != offset or len(audio.samples) != 2 * audio.sample_count:
                                raise broken("CODEC", f"audio at {audio.sample_offset} is not what follows.")
                            offset += audio.sample_count
                            await self._take_new(audio, take)
                            window.taken(audio.sample_count)
                        case "complete":
                            complete = response.complete
        finally:
            has_slot.set()
            window.release()
        if complete is None:
            raise unreachable("CODEC")
        if complete.frame_count != buffer.frame_count:
            raise broken("CODEC", f"it decoded {complete.frame_count} of {buffer.frame_count} frames.")
        if not complete.sample_count == offset == self._taken_samples:
            raise broken("CODEC", f"it counts {complete.sample_count} samples; {self._taken_samples} were taken.")
        return complete

    @property
    def _held_samples(self) -> float:
        """Most samples that the codec holds back by design, at the speed at which it sends them."""
        codec = self._catalog.codec
        stretch_samples = codec.stretch_sample_count / self._speed if self._speed != 1 else 0
        return codec.latency_sample_count + stretch_samples

    async def _take_new(self, audio: codec_pb2.AudioSamples, take: Take) -> None:
        new = audio.samples[2 * max(0, self._taken_samples - audio.sample_offset) :]
        self._taken_samples += len(new) // 2
        await take(new)
