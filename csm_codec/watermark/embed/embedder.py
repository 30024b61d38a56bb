"""Embeds the watermark into many streams of audio at once. Each stream equals its whole clip embedded in one call.

Audio is resampled to the network's rate, framed, and marked in its spectrum. Only the mark is resampled back and added;
the signal itself is not resampled. The output lags by at most `latency_samples`, and by less at the start
(look_ahead.py). The last call of a stream returns the rest, so no sample is lost. The result does not depend on how the
audio is cut, or on other streams.

Streams have numbered slots. On a CPU it is best to embed each slot on its own. On a GPU it is best to embed all slots
as one lane: a batch that costs as much as the bucket of its last row with a stream. Both ways a stream's result never
depends on its neighbours, bit for bit, within a bucket. It knows no codec and no keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch

from csm_codec.resample import Pcm
from csm_codec.watermark.embed.spectral_embedder import SpectralEmbedder
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.block_resample import BlockResampler
from csm_codec.watermark.stream.level import LevelEstimate
from csm_codec.watermark.stream.look_ahead import FULL, LookAhead
from csm_codec.watermark.stream.marked_stream import MarkedStream
from csm_codec.watermark.stream.progress import START, ClipProgress, Grid, MarkPoint, grid_at


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one stream's audio, mono at the embedder's rate."""

    pcm: Pcm
    last: bool = False


class Lane(Protocol):
    """The interface of FrameEmbedder and SpectralEmbedder."""

    @property
    def lag(self) -> int:
        """The networks' own look-ahead, in frames."""

    def run(self, streams: Mapping[int, MarkedStream]) -> None:
        """Marks all frames that the streams have ready. streams: by row. After a failure they must be joined anew."""


class Embedder:
    """`num_slots` slots. A slot must be joined before its stream's first chunk."""

    def __init__(
        self,
        silentcipher: SilentCipher,
        *,
        sample_rate_hz: int,
        num_slots: int,
        lane_width: int,
        look_ahead: LookAhead = FULL,
        first_samples: int = 0,
        dtype: torch.dtype = torch.float32,
        constant_shape: bool = False,
    ) -> None:
        """num_slots: a multiple of lane_width. lane_width: 1 is no lanes, on a CPU. dtype: of the networks'
        convolutions. constant_shape: a lane's steps are all of its whole width, see SpectralEmbedder.

        first_samples: if not 0, STFT frames lie so that the first so many samples of a stream, at its rate, complete a
        hop, where that is possible: streams are embedded as clips with so much silence before them as this takes.
        """
        self._silentcipher = silentcipher
        self._sample_rate_hz = sample_rate_hz
        self._look_ahead = look_ahead
        # Of silence that a stream's clip begins with, at the networks' rate.
        self.lead_samples = self._lead_samples(first_samples) if first_samples else 0
        self._lanes: list[Lane]
        if lane_width == 1 and silentcipher.device.type == "cpu":
            from csm_codec.watermark.embed.frame_embedder import FrameEmbedder  # compiles its kernels when imported

            self._lane_width, self._lanes = num_slots, [FrameEmbedder(silentcipher, dtype)]
        else:
            self._lane_width = lane_width
            self._lanes = [
                SpectralEmbedder(silentcipher, lane_width, dtype, constant_shape=constant_shape)
                for _ in range(num_slots // lane_width)
            ]
        self._streams: dict[int, MarkedStream] = {}

    def with_own_memory(self) -> Embedder:
        """As many slots with the same weights, for another thread. Raises TypeError on a GPU, where slots are lanes."""
        from csm_codec.watermark.embed.frame_embedder import FrameEmbedder

        (lane,) = self._lanes
        if not isinstance(lane, FrameEmbedder):
            raise TypeError("Only slots that are embedded on their own share weights.")
        other = copy(self)
        other._lanes, other._streams = [lane.with_own_memory()], {}
        return other

    @property
    def n_fft(self) -> int:
        """Samples per window, at the network's rate."""
        return self._silentcipher.hparams.n_fft

    @property
    def latency_samples(self) -> int:
        """How far the output may lag, at most."""
        hparams = self._silentcipher.hparams
        hops = min(self._lanes[0].lag, self._look_ahead.most) + 2
        network_hz, hop = hparams.sample_rate_hz, hparams.hop
        there = BlockResampler(self._sample_rate_hz, network_hz).lag_samples / self._sample_rate_hz
        back = BlockResampler(network_hz, self._sample_rate_hz).lag_samples / network_hz
        return math.ceil((hops * hop / network_hz + there + back) * self._sample_rate_hz)

    def join(
        self,
        slot: int,
        symbols: tuple[int, ...],
        level: LevelEstimate,
        before: ClipProgress = START,
        point: MarkPoint | None = None,
    ) -> MarkedStream:
        """Starts a stream in a slot and drops the slot's old one. symbols: one period, from payload.frame_symbols.

        before: `progress` of the stream before this one in the clip; `level` continues the same one. point: of a stream
        with the same audio, which this one continues; `level` too. Raises WrongPointError for one that cannot be.
        """
        hparams, lag = self._silentcipher.hparams, self._lanes[0].lag
        grid = (
            Grid(0, self.lead_samples) if before == START else grid_at(before.position, hparams.hop, self.lead_samples)
        )
        stream = MarkedStream(hparams, self._sample_rate_hz, symbols, level, self._look_ahead, lag, grid, before, point)
        self._streams[slot] = stream
        return stream

    def push(self, chunks: Mapping[int, Chunk]) -> dict[int, Pcm]:
        """Takes a chunk for some slots. Returns the marked samples that are ready for each, perhaps none.

        Raises CodecError if a mark is not finite. Nothing of these streams may be sent then; their slots must be
        joined anew.
        """
        for slot, chunk in chunks.items():
            self._streams[slot].push(chunk.pcm, last=chunk.last)
        for lane, rows in self._by_lane(chunks).items():
            self._lanes[lane].run({row: self._streams[lane * self._lane_width + row] for row in rows})
        return {slot: self._streams[slot].take_marked() for slot in chunks}

    def _lead_samples(self, first_samples: int) -> int:
        hparams = self._silentcipher.hparams
        known = BlockResampler(self._sample_rate_hz, hparams.sample_rate_hz).ready(first_samples)
        missing = max(0, hparams.n_fft - known)  # a hop is complete with the window that ends a hop behind it
        return missing if missing < hparams.hop else 0

    def _by_lane(self, slots: Iterable[int]) -> dict[int, list[int]]:
        """The rows within each lane."""
        lanes: dict[int, list[int]] = {}
        for slot in slots:
            lane, row = divmod(slot, self._lane_width)
            lanes.setdefault(lane, []).append(row)
        return lanes


def mark_clip(
    silentcipher: SilentCipher,
    pcm: Pcm,
    sample_rate_hz: int,
    symbols: tuple[int, ...],
    level: LevelEstimate,
    look_ahead: LookAhead = FULL,
) -> Pcm:
    """Marks a finished clip as a stream would. The length stays the same."""
    embedder = Embedder(silentcipher, sample_rate_hz=sample_rate_hz, num_slots=1, lane_width=1, look_ahead=look_ahead)
    embedder.join(0, symbols, level)
    return embedder.push({0: Chunk(pcm, last=True)})[0]
