"""The codec: codes in, watermarked audio out, for a batch of streams. It never returns audio without a watermark.

A step takes one frame of every stream that has one: decode, change speed, embed the watermark, return. One thread
drives it (codec_thread.py). It knows no RPC.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from csm_bundle.errors import CodecError, CsmError, InvalidRequestError
from csm_codec.codes import CheckedCodes
from csm_codec.lanes import Lanes, Slot, by_lane
from csm_codec.mimi.decoder import MimiDecoder
from csm_codec.resample import Pcm
from csm_codec.stream import (
    DEFAULTS,
    Audio,
    Checkpoint,
    Complete,
    DecodeOptions,
    DecodeStream,
    Failed,
    Output,
    StreamStart,
)
from csm_codec.stretch import Stretcher
from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.keyring import FindsKey
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.marked_stream import AT_THE_START, MarkedStream, Place
from csm_codec.watermark.stream.progress import ClipProgress, MarkPoint, WrongPointError

logger = logging.getLogger(__name__)

_NOTHING: Pcm = np.zeros(0, np.float32)
MOST_FAILED_STEPS = 8  # in a row, until the whole codec fails
_MAX_LATENTS = 8  # frames of a resumed stream that one step skips
_CATCH_UP_S = 0.25  # time of a step after which it skips no further frames, so that it is not taken for a hang
_MAX_LEVEL = 1e9  # full scale is 1; from 1e18 on the watermark is not finite and would fail the whole lane


class Codec:
    """Owns the decoder and the embedder. Not thread-safe."""

    def __init__(self, decoder: MimiDecoder, embedder: Embedder, keyring: FindsKey) -> None:
        """embedder: with one slot per row of the decoder; each of its lanes lies in one lane of the decoder."""
        self._decoder, self._embedder, self._keyring = decoder, embedder, keyring
        self._lanes = Lanes(decoder.num_lanes, decoder.lane_width)
        self._num_failed_steps = 0  # in a row, without audio between them
        self._streams: dict[Slot, DecodeStream] = {}
        self._marks: dict[Slot, MarkedStream] = {}
        self._stretchers: dict[Slot, Stretcher] = {}  # of streams of another speed than 1

    def with_own_memory(self) -> Codec:
        """A codec of as many slots over the same weights, for another thread. Needs a decoder of the form FRAMES."""
        return Codec(self._decoder.with_own_memory(), self._embedder.with_own_memory(), self._keyring)

    @property
    def device(self) -> torch.device:
        return self._decoder.device

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

    def open(self, options: DecodeOptions = DEFAULTS) -> DecodeStream:
        """Raises CodecBusyError, KeyringError, and InvalidRequestError for an invalid point."""
        point, speed = options.point, options.speed
        if speed != 1 and point is not None:
            raise InvalidRequestError("checkpoint", "can be continued at speed 1 alone")
        key = self._keyring.get(options.key_id)
        stretcher = None if speed == 1 else Stretcher(speed, self._decoder.identity.sample_rate_hertz)
        slot = self._lanes.take()
        try:
            marks = self._join(slot, frame_symbols(key.payload), options.before, point)
            start = self._start_of(marks.place)
            if point is not None:
                self._decoder.begin(slot.lane, slot.row, start.first_frame)
        except WrongPointError as error:
            self._lanes.leave(slot)
            raise InvalidRequestError("checkpoint", str(error)) from None
        except BaseException:
            self._lanes.leave(slot)
            raise
        if stretcher is not None:
            self._stretchers[slot] = stretcher
        stream = DecodeStream(slot, key.id, start, options.checkpoint_frames if speed == 1 else 0)
        stream.num_frames, stream.num_samples = start.first_frame, start.first_sample
        self._streams[slot], self._marks[slot] = stream, marks
        return stream

    def push(self, stream: DecodeStream, codes: CheckedCodes) -> None:
        """Queues frames, (frames, codebooks), already checked. An ended stream ignores them."""
        if not stream.ended:
            stream.pending.extend(codes)

    def finish(self, stream: DecodeStream) -> None:
        """No more frames will come; the next steps return the rest of the audio."""
        stream.finished = True

    def cancel(self, stream: DecodeStream) -> None:
        """Frees the slot at once. Cancelling an ended stream does nothing."""
        if not stream.ended:
            self._leave(stream)

    def step(self) -> list[Output]:
        """Runs one step. An error fails the streams that it affects; it is raised only if the codec cannot continue, or
        if MOST_FAILED_STEPS in a row have failed streams.
        """
        outputs: list[Output] = []
        until_s = time.perf_counter() + _CATCH_UP_S
        for lane, slots in by_lane(slot for slot, stream in self._streams.items() if stream.ready).items():
            try:
                self._step_lane(lane, [self._streams[slot] for slot in slots], until_s, outputs)
            except Exception as error:
                logger.exception("lane %d failed", lane)
                outputs += self._fail_lane(lane, error)
        self._check_health(outputs)
        return outputs

    def _check_health(self, outputs: Sequence[Output]) -> None:
        """Raises CodecError when steps fail streams and none gives audio: the next stream would fail too."""
        if any(isinstance(output, Audio) and len(output.pcm) for output in outputs):
            self._num_failed_steps = 0
        elif any(isinstance(output, Failed) and type(output.error) is CodecError for output in outputs):
            self._num_failed_steps += 1
            if self._num_failed_steps == MOST_FAILED_STEPS:
                raise CodecError(f"{MOST_FAILED_STEPS} steps in a row have failed their streams.")

    def _step_lane(self, lane: int, streams: Sequence[DecodeStream], until_s: float, outputs: list[Output]) -> None:
        """Appends to `outputs`, so that outputs before an error in this step are not lost."""
        behind = [stream for stream in streams if stream.pending and stream.is_catching_up]
        outputs += self._catch_up(lane, behind, until_s)
        streams = [stream for stream in streams if stream not in behind]
        if not streams:
            return
        decoded = self._decode(lane, [stream for stream in streams if stream.pending])
        chunks: dict[int, Chunk] = {}
        for stream in streams:
            pcm = decoded.get(stream.slot, _NOTHING)
            if stream.slot in decoded:
                if stream.num_frames <= stream.start.first_marked:
                    pcm = _NOTHING  # the states of the convolutions are not complete yet
                elif stream.checkpoint_frames and (stream.num_frames - 1) % stream.checkpoint_frames == 0:
                    self._marks[stream.slot].offer_point()
            try:
                chunks[stream.slot.number] = self._chunk(stream, pcm)
            except Exception as error:
                logger.exception("a stream in lane %d failed", lane)
                self._decoder.forget(lane, stream.slot.row)
                outputs.append(self._fail(stream, _stream_error(error)))
        started_s = time.perf_counter()
        marked = self._embedder.push(chunks)
        seconds = time.perf_counter() - started_s
        for stream in streams:
            if not stream.ended:
                stream.watermark_s += seconds / len(marked)
                number, num_new_frames = stream.slot.number, int(stream.slot in decoded)
                outputs += self._outputs_of(stream, marked[number], num_new_frames, chunks[number].last)

    def _catch_up(self, lane: int, streams: Sequence[DecodeStream], until_s: float) -> list[Output]:
        """Computes only the latents of the next frames of resumed streams: up to _MAX_LATENTS frames, because other
        streams wait meanwhile, and a single one after `until_s`.
        """
        started_s = time.perf_counter()
        num_before = {stream.slot: stream.num_frames for stream in streams}
        for num_done in range(_MAX_LATENTS):
            going = [stream for stream in streams if stream.pending and stream.is_catching_up]
            if not going or (num_done and time.perf_counter() >= until_s):
                break
            self._decoder.latent_step(lane, *self._next_codes(going))
        for stream in streams:
            stream.decode_s += (time.perf_counter() - started_s) / len(streams)
        return [Audio(s, _NOTHING, s.num_frames, s.num_frames - num_before[s.slot]) for s in streams]

    def _decode(self, lane: int, streams: Sequence[DecodeStream]) -> dict[Slot, Pcm]:
        """Decodes the next frame of each stream."""
        if not streams:
            return {}
        started_s = time.perf_counter()
        reset_mask = np.zeros(self._decoder.lane_width, np.bool_)
        reset_mask[[stream.slot.row for stream in streams if stream.num_frames == 0]] = True
        codes, exec_mask = self._next_codes(streams)
        pcm = self._decoder.frame_step(lane, codes, exec_mask, torch.from_numpy(reset_mask)).cpu().numpy()
        for stream in streams:
            stream.decode_s += (time.perf_counter() - started_s) / len(streams)
        return {stream.slot: pcm[stream.slot.row] for stream in streams}

    def _next_codes(self, streams: Sequence[DecodeStream]) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes the next frame of each stream of a lane: (lane width, codebooks), and the mask of the streams' rows."""
        width, codebooks = self._decoder.lane_width, self._decoder.identity.codebook_count
        codes, exec_mask = np.zeros((width, codebooks), np.int64), np.zeros(width, np.bool_)
        for stream in streams:  # in numpy, where a row costs a tenth of what it costs in torch
            codes[stream.slot.row] = stream.pending.popleft()
            exec_mask[stream.slot.row] = True
            stream.num_frames += 1
        return torch.from_numpy(codes), torch.from_numpy(exec_mask)

    def _join(
        self, slot: Slot, symbols: tuple[int, ...], before: ClipProgress, point: MarkPoint | None
    ) -> MarkedStream:
        """Starts the stream's watermark. Raises WrongPointError for an invalid point."""
        so_far = before
        if point is not None:
            before = point.before
            so_far = replace(before, square_sum=point.level_sum, hops=point.level_frames)
        level = RunningLevel(self._embedder.n_fft, so_far)
        return self._embedder.join(slot.number, symbols, level, before, point)

    def _start_of(self, place: Place) -> StreamStart:
        """The start of a stream whose watermark starts at `place`. Raises WrongPointError within a frame."""
        if place == AT_THE_START:
            return StreamStart()
        first_marked, rest = divmod(place.num_samples, self._decoder.identity.frame_sample_count)
        if rest:
            raise WrongPointError(f"{place.num_samples} samples end within a frame.")
        first_decoded = max(0, first_marked - self._decoder.audio_frames)
        return StreamStart(
            first_frame=max(0, first_decoded - self._decoder.latent_frames),
            first_decoded=first_decoded,
            first_marked=first_marked,
            first_sample=place.first_sample,
        )

    def _checkpoint(self, marks: MarkedStream) -> Checkpoint | None:
        """The stream's newest checkpoint, if it was not returned yet."""
        if (point := marks.next_point) is None:
            return None
        marks.next_point = None
        return Checkpoint(point, self._start_of(marks.place_of(point)))

    def _chunk(self, stream: DecodeStream, pcm: Pcm) -> Chunk:
        """A frame of the stream at its speed, or only its end. An error here fails this stream only."""
        if not np.abs(pcm).max(initial=0) <= _MAX_LEVEL:  # true for NaN too
            raise CodecError("The decoder's output is no sound: not finite, or far too loud.")
        last = stream.finished and not stream.pending
        if (stretcher := self._stretchers.get(stream.slot)) is not None:
            started_s = time.perf_counter()
            pcm = stretcher.push(pcm, last=last)
            stream.decode_s += time.perf_counter() - started_s
        return Chunk(pcm, last)

    def _outputs_of(self, stream: DecodeStream, pcm: Pcm, num_new_frames: int, last: bool) -> list[Output]:
        marks = self._marks[stream.slot]
        stream.num_samples += len(pcm)
        outputs: list[Output] = [Audio(stream, pcm, stream.num_frames, num_new_frames, self._checkpoint(marks))]
        if last:
            outputs.append(Complete(stream, marks.coverage, marks.progress))
            self._leave(stream)
        return outputs

    def _fail_lane(self, lane: int, error: Exception) -> list[Output]:
        """Resets a lane after an error. Its streams are lost, other lanes continue. Raises if the reset fails.

        The embedder needs no reset: the first frame of a stream clears its slot.
        """
        streams = [stream for slot, stream in self._streams.items() if slot.lane == lane]
        self._decoder.rebuild(lane)
        return [self._fail(stream, _stream_error(error)) for stream in streams]

    def _fail(self, stream: DecodeStream, error: CsmError) -> Failed:
        self._leave(stream)
        return Failed(stream, error)

    def _leave(self, stream: DecodeStream) -> None:
        stream.ended = True
        stream.pending.clear()
        del self._streams[stream.slot], self._marks[stream.slot]
        self._stretchers.pop(stream.slot, None)
        self._lanes.leave(stream.slot)


def _stream_error(error: Exception) -> CsmError:
    """The error to report to a stream; others than CsmError are not shown."""
    return error if isinstance(error, CsmError) else CodecError("The codec failed in this stream's batch.")
