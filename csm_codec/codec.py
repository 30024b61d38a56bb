"""Codes in, watermarked audio out, for all streams at once. There is no way to get unmarked audio out of here.

One step takes one frame of every stream that has one: decode, stretch, embed, hand out. It is driven from one thread
(codec_thread.py) and knows no RPC.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import torch

from csm_bundle.errors import CodecError, CsmError
from csm_codec.codes import Codes
from csm_codec.lanes import Lanes, Slot, by_lane
from csm_codec.mimi.decoder import MimiDecoder
from csm_codec.resample import Pcm
from csm_codec.stream import Audio, Complete, DecodeStream, Failed, Output
from csm_codec.stretch import Stretcher
from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.keyring import Keyring
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.marked_stream import MarkedStream
from csm_codec.watermark.stream.progress import START, ClipProgress

logger = logging.getLogger(__name__)

_NOTHING: Pcm = np.zeros(0, np.float32)
_LOUDEST = 1e9  # full scale is 1; from 1e18 on the mark is not finite and would fail the whole lane


class Codec:
    """Owns the decoder and the embedder. Not safe for several threads."""

    def __init__(self, decoder: MimiDecoder, embedder: Embedder, keyring: Keyring) -> None:
        """embedder: has one slot for each row of the decoder; none of its lanes spans two lanes of the decoder."""
        self._decoder, self._embedder, self._keyring = decoder, embedder, keyring
        self._lanes = Lanes(decoder.num_lanes, decoder.lane_width)
        self._streams: dict[Slot, DecodeStream] = {}
        self._marks: dict[Slot, MarkedStream] = {}
        self._stretchers: dict[Slot, Stretcher] = {}  # of streams of another speed than 1

    @property
    def num_slots(self) -> int:
        """Streams that may be open at once."""
        return self._lanes.num_slots

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    @property
    def has_work(self) -> bool:
        return any(stream.ready for stream in self._streams.values())

    def open(self, key_id: str = "", before: ClipProgress = START, speed: float = 1.0) -> DecodeStream:
        """A new stream, marked with that key ("" is the active one). Raises CodecBusyError or KeyringError.

        before: progress of the stream that this one continues, as that stream's Complete reported it. speed: of the
        speech, as Stretcher takes it; at 1 nothing is changed
        """
        key = self._keyring.get(key_id)
        slot = self._lanes.take()
        level = RunningLevel(self._embedder.n_fft, before)
        self._marks[slot] = self._embedder.join(slot.number, frame_symbols(key.payload), level, before)
        if speed != 1:
            self._stretchers[slot] = Stretcher(speed, self._decoder.identity.sample_rate_hertz)
        stream = DecodeStream(slot, key.id)
        self._streams[slot] = stream
        return stream

    def push(self, stream: DecodeStream, codes: Codes) -> None:
        """Queues frames, (frames, codebooks), checked before. An ended stream takes none."""
        if not stream.ended:
            stream.pending.extend(codes)

    def finish(self, stream: DecodeStream) -> None:
        """No more frames will come; the next steps bring the rest of the audio."""
        stream.finished = True

    def cancel(self, stream: DecodeStream) -> None:
        """Frees the slot at once. Cancelling an ended stream does nothing."""
        if not stream.ended:
            self._leave(stream)

    def step(self) -> list[Output]:
        """One step. A fault fails the streams it touches; raises only if the codec cannot go on."""
        outputs: list[Output] = []
        for lane, slots in by_lane(slot for slot, stream in self._streams.items() if stream.ready).items():
            try:
                outputs += self._step_lane(lane, [self._streams[slot] for slot in slots])
            except Exception as error:
                logger.exception("lane %d failed", lane)
                outputs += self._fail_lane(lane, error)
        return outputs

    def _step_lane(self, lane: int, streams: Sequence[DecodeStream]) -> list[Output]:
        decoded = self._decode(lane, [stream for stream in streams if stream.pending])
        outputs: list[Output] = []
        chunks: dict[int, Chunk] = {}
        for stream in streams:
            pcm = decoded.get(stream.slot, _NOTHING)
            if np.abs(pcm).max(initial=0) <= _LOUDEST:  # not so with NaN
                last = stream.finished and not stream.pending
                chunks[stream.slot.number] = Chunk(self._stretched(stream, pcm, last=last), last)
            else:
                self._decoder.forget(lane, stream.slot.row)
                outputs.append(
                    self._fail(stream, CodecError("The decoder's output is no sound: not finite, or far too loud."))
                )
        started_s = time.perf_counter()
        marked = self._embedder.push(chunks)
        seconds = time.perf_counter() - started_s
        for stream in streams:
            if not stream.ended:
                stream.watermark_s += seconds / len(marked)
                number, num_new_frames = stream.slot.number, int(stream.slot in decoded)
                outputs += self._hand_out(stream, marked[number], num_new_frames, chunks[number].last)
        return outputs

    def _decode(self, lane: int, streams: Sequence[DecodeStream]) -> dict[Slot, Pcm]:
        """The next frame of each stream."""
        if not streams:
            return {}
        started_s = time.perf_counter()
        width, codebooks = self._decoder.lane_width, self._decoder.identity.codebook_count
        codes = torch.zeros(width, codebooks, dtype=torch.long)
        exec_mask, reset_mask = torch.zeros(width, dtype=torch.bool), torch.zeros(width, dtype=torch.bool)
        for stream in streams:
            row = stream.slot.row
            codes[row] = torch.from_numpy(stream.pending.popleft())
            exec_mask[row], reset_mask[row] = True, stream.num_frames == 0
            stream.num_frames += 1
        pcm = self._decoder.frame_step(lane, codes, exec_mask, reset_mask).cpu().numpy()
        for stream in streams:
            stream.decode_s += (time.perf_counter() - started_s) / len(streams)
        return {stream.slot: pcm[stream.slot.row] for stream in streams}

    def _stretched(self, stream: DecodeStream, pcm: Pcm, *, last: bool) -> Pcm:
        """At the stream's speed."""
        if (stretcher := self._stretchers.get(stream.slot)) is None:
            return pcm
        started_s = time.perf_counter()
        made = stretcher.push(pcm, last=last)
        stream.decode_s += time.perf_counter() - started_s
        return made

    def _hand_out(self, stream: DecodeStream, pcm: Pcm, num_new_frames: int, last: bool) -> list[Output]:
        stream.num_samples += len(pcm)
        outputs: list[Output] = [Audio(stream, pcm, stream.num_frames, num_new_frames)]
        if last:
            marks = self._marks[stream.slot]
            outputs.append(Complete(stream, marks.coverage, marks.progress))
            self._leave(stream)
        return outputs

    def _fail_lane(self, lane: int, error: Exception) -> list[Output]:
        """Resets a lane after a fault. Its streams are lost, other lanes go on. Raises if the reset fails."""
        cause = error if isinstance(error, CsmError) else CodecError("The codec failed in this stream's batch.")
        streams = [stream for slot, stream in self._streams.items() if slot.lane == lane]
        self._decoder.rebuild(lane)
        self._embedder.rebuild(stream.slot.number for stream in streams)
        return [self._fail(stream, cause) for stream in streams]

    def _fail(self, stream: DecodeStream, error: CsmError) -> Failed:
        self._leave(stream)
        return Failed(stream, error)

    def _leave(self, stream: DecodeStream) -> None:
        stream.ended = True
        stream.pending.clear()
        del self._streams[stream.slot], self._marks[stream.slot]
        self._stretchers.pop(stream.slot, None)
        self._lanes.leave(stream.slot)
