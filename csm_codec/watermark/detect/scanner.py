"""Searches a recording of any length for marked stretches while it arrives, in bounded memory.

It keeps the readings of the decoder (40 bytes a frame: 7 MB for an hour at the small networks' 47 frames a second), the
loudest six seconds for the verdict on the whole, and one block of audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csm_codec.resample import Pcm, StreamResampler
from csm_codec.watermark.detect.detector import READ_SECONDS, Detection, detect_in_pieces
from csm_codec.watermark.detect.evidence import PHASES, Indices, Readings, log_threshold, most_keys
from csm_codec.watermark.detect.loudest import LoudestPiece
from csm_codec.watermark.detect.pieces import Pieces, result_of
from csm_codec.watermark.detect.stretches import GridStretch, Stretch, join
from csm_codec.watermark.detect.symbol_grid import Block, SymbolGrid
from csm_codec.watermark.detect.windows import Hits, hits
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import MESSAGE_DIM, SilentCipher

_SUSPICIOUS = float(np.log(1e-6))  # chance of a window at which the phases between are read as well


@dataclass(frozen=True, slots=True)
class Scan:
    """whole: the verdict on the loudest six seconds. stretches: in the order of their beginnings."""

    whole: Detection
    stretches: tuple[Stretch, ...]


class Scanner:
    """One recording."""

    def __init__(self, silentcipher: SilentCipher, keys: Sequence[WatermarkKey], sample_rate_hz: int) -> None:
        """keys: with more than `most_keys` a perfect reading still passes, and false alarms grow in proportion"""
        hparams = silentcipher.hparams
        self._networks, self._keys = silentcipher, keys
        self._rate_hz, self._hop = hparams.sample_rate_hz, hparams.hop
        self._resampler = StreamResampler(sample_rate_hz, hparams.sample_rate_hz)
        self._grid = SymbolGrid(silentcipher)
        self._loudest = LoudestPiece(round(READ_SECONDS * hparams.sample_rate_hz))
        self._symbols: list[Indices] = [
            np.array(frame_symbols(key.payload)[:NUM_SYMBOLS], np.int64) - 1 for key in keys
        ]
        period_s = PERIOD * self._hop / self._rate_hz
        self._log_limit = log_threshold(period_s, min(max(1, len(keys)), most_keys(period_s)))
        self._readings: list[Readings] = []  # (PHASES, frames, MESSAGE_DIM) of each block
        self._num_samples = 0  # at the network's rate
        self._waiting: list[Pcm] = []  # samples that are not worth the work yet
        self._num_waiting, self._least_samples = 0, sample_rate_hz // 2

    def push(self, pcm: Pcm) -> None:
        """The next samples, -1 to 1, at the recording's rate. They may be of any number."""
        result_of(self.push_in_pieces(pcm))

    def push_in_pieces(self, pcm: Pcm) -> Pieces[None]:
        """The same, in pieces like those of `finish_in_pieces` if the samples are few. All pieces must be run."""
        self._waiting.append(pcm)
        self._num_waiting += len(pcm)
        if self._num_waiting >= self._least_samples:
            yield from self._push(self._resampler.push(self._take_waiting()))

    def finish(self) -> Scan:
        """Once, after the last samples."""
        return result_of(self.finish_in_pieces())

    def finish_in_pieces(self) -> Pieces[Scan]:
        """The same, in pieces: none takes longer than to read one block of audio at two phases."""
        yield from self._push(self._resampler.push(self._take_waiting(), last=True))
        yield from self._read(self._grid.finish())
        whole = yield from detect_in_pieces(self._networks, self._keys, self._loudest.get())
        if not self._readings or not self._keys:
            return Scan(whole, ())
        yield
        readings = np.concatenate(self._readings, axis=1)
        self._readings.clear()
        found: list[Hits] = []
        for phase in range(PHASES):
            found.append((yield from hits(readings[phase], phase, self._symbols, self._log_limit)))
        stretches = yield from join(np.concatenate(found), readings, self._symbols)
        return Scan(whole, tuple(map(self._in_seconds, stretches)))

    def _take_waiting(self) -> Pcm:
        pcm = np.concatenate((*self._waiting, np.zeros(0, np.float32)))
        self._waiting, self._num_waiting = [], 0
        return pcm

    def _push(self, native: Pcm) -> Pieces[None]:
        self._num_samples += len(native)
        self._loudest.push(native)
        yield from self._read(self._grid.push(native))

    def _read(self, blocks: Sequence[Block]) -> Pieces[None]:
        for block in blocks:
            yield
            readings = np.zeros((PHASES, block.num_frames, MESSAGE_DIM), np.float16)
            readings[0::2] = block.read(between=False)
            if self._is_doubtful(readings):
                yield
                readings[1::2] = block.read(between=True)
            self._readings.append(readings)

    def _is_doubtful(self, readings: Readings) -> bool:
        """Whether a mark is likely and not certain yet. A cut may have put it between the phases that were read."""
        found = [result_of(hits(readings[phase], phase, self._symbols, _SUSPICIOUS)) for phase in range(0, PHASES, 2)]
        best = float(np.concatenate(found)["log_chance"].min(initial=0.0))
        return self._log_limit < best <= _SUSPICIOUS

    def _in_seconds(self, stretch: GridStretch) -> Stretch:
        """Frames are centred at multiples of the hop; a stretch reaches half a hop beyond its outermost centres."""
        duration_s = self._num_samples / self._rate_hz
        offset = stretch.phase / PHASES - 0.5
        start_s = max(0.0, (stretch.first_frame + offset) * self._hop / self._rate_hz)
        end_s = min(duration_s, (stretch.end_frame + offset) * self._hop / self._rate_hz)
        return Stretch(start_s, end_s, self._keys[stretch.key].id, stretch.confidence)


def scan(silentcipher: SilentCipher, keys: Sequence[WatermarkKey], pcm: Pcm, sample_rate_hz: int) -> Scan:
    """The same for a whole recording."""
    return result_of(scan_in_pieces(silentcipher, keys, pcm, sample_rate_hz))


def scan_in_pieces(
    silentcipher: SilentCipher, keys: Sequence[WatermarkKey], pcm: Pcm, sample_rate_hz: int
) -> Pieces[Scan]:
    """The same, in pieces: at most one second of audio, or those of `finish_in_pieces`."""
    scanner = Scanner(silentcipher, keys, sample_rate_hz)
    for start in range(0, len(pcm), sample_rate_hz):
        yield from scanner.push_in_pieces(pcm[start : start + sample_rate_hz])
        yield
    return (yield from scanner.finish_in_pieces())
