"""SilentCipher's embedding networks on a CPU, one frame of one stream at a time. Same numbers as networks/embedding.py.

networks/embedding.py steps a batch of fixed width, which suits a GPU. Here each frame goes through all layers alone.
Frames outside a clip are not computed. A frame's result depends on its own row alone, bit for bit. Convolutions take
less than a third of the multiplications (winograd.py).

It knows no audio: magnitudes in, magnitudes out.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from csm_codec.watermark.cpu.message_layer import MessageLayer
from csm_codec.watermark.cpu.winograd import Past, Rows, TiledBins, WinogradLayer
from csm_codec.watermark.keys.payload import PERIOD
from csm_codec.watermark.networks.embedding import message_table
from csm_codec.watermark.networks.silentcipher import SilentCipher

Spectrum = npt.NDArray[np.float32]  # magnitudes


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one row's clip."""

    row: int
    index: int  # since the start of the clip; 0 begins a new one
    num_frames: int  # any larger number for a clip whose end is not known yet
    symbols: tuple[int, ...]  # of one period

    def has(self, ago: int) -> bool:
        """Whether the frame so many before is one of the clip's."""
        return 0 <= self.index - ago < self.num_frames

    def symbol(self, ago: int) -> int:
        """On the air at the frame so many before."""
        return self.symbols[(self.index - ago) % PERIOD]


class FrameNetwork:
    """The networks and the state of every row. The caller numbers the rows. Frame 0 makes or resets a row's state."""

    def __init__(self, silentcipher: SilentCipher, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of the convolutions."""
        hparams = silentcipher.hparams
        encoder, decoder = silentcipher.carrier_encoder, silentcipher.carrier_decoder
        *decoder_layers, last = decoder.main
        self.encoder_lag = len(encoder.main)
        self.lag = self.encoder_lag + len(decoder_layers)  # frames
        self.bins = min(hparams.num_bins, hparams.band + self.lag)  # lowest bins that matter
        self._tiled = TiledBins(self.bins)
        self._layers = [WinogradLayer(layer, self._tiled, dtype=dtype) for layer in encoder.main]
        self._layers += [
            WinogradLayer(layer, self._tiled, fold_inputs=index == 0, dtype=dtype)
            for index, layer in enumerate(decoder_layers)
        ]
        self._message = MessageLayer(
            last, band=hparams.band, num_bins=hparams.num_bins, amplitude=10 ** (-hparams.sdr_db / 20)
        )
        messages = message_table(encoder, self.bins).numpy()
        self._messages = [self._tiled.pad(message[:, None]) for message in messages]  # of each symbol
        self._dtype = dtype
        self._take_memory()

    def with_own_memory(self) -> FrameNetwork:
        """The same weights and no rows, for another thread."""
        other = copy(self)
        other._layers = [layer.with_own_memory() for layer in self._layers]
        other._take_memory()
        return other

    def _take_memory(self) -> None:
        workspace = torch.empty(max(layer.workspace_size for layer in self._layers), dtype=self._dtype)
        for layer in self._layers:
            layer.use(workspace)
        self._rows: dict[int, _Row] = {}

    def step(self, frame: Frame, carrier: Spectrum) -> Spectrum | None:
        """Takes a row's next frame. Returns the message of the frame `lag` before it, None if there is no such frame.

        carrier: (bins,) magnitudes; those of frames past the end do not matter. The message is (band,), positive, with
        an rms over all bins of one over the signal-to-distortion ratio.
        """
        if frame.index == 0:
            self._rows[frame.row] = _Row(self.lag, self.encoder_lag)
        row = self._rows[frame.row]
        own = self._tiled.pad(carrier[:, None])
        delayed, x = row.delay(own), own if frame.has(0) else None
        for index in range(min(self.lag, frame.index + 1)):
            if frame.index - index > frame.num_frames:
                continue  # nothing is left for this layer
            if index == self.encoder_lag and x is not None:
                assert delayed is not None
                x = self._merged(x, delayed, frame.symbol(ago=index))
            x, row.pasts[index] = self._through(index, row.pasts[index], x)
        return self._message(x) if x is not None and frame.has(self.lag) else None

    def without_future(self, frame: Frame, count: int) -> Spectrum:
        """The message of the frame `count` after the one of the row's last step, as if `frame`, which it took then,
        were the last of the clip. count: 1 to `lag`; `lag` is `frame` itself, which is the latest that can be asked
        for. The frame asked for must be in the clip. Changes no state.
        """
        row, last, target = self._rows[frame.row], frame.index, frame.index - self.lag + count
        outputs: dict[int, Rows] = {}  # of the layer before, by frame
        for index, layer in enumerate(self._layers):
            if index == self.encoder_lag:
                outputs = {
                    at: self._merged(x, row.carriers[at - last - 1], frame.symbol(ago=last - at))
                    for at, x in outputs.items()
                }
            past, known = row.pasts[index], last - index  # the newest input that the layer has had
            inputs = outputs if past is None else outputs | {known - 1: past.older, known: past.old}
            reach = self.lag - 1 - index  # of the layers behind this one, to either side
            wanted = range(max(0, known, target - reach), min(last, target + reach) + 1)
            outputs = {at: layer.apply(inputs.get(at - 1), inputs[at], inputs.get(at + 1)) for at in wanted}
        return self._message(outputs[target])

    def _through(self, index: int, past: Past | None, x: Rows | None) -> tuple[Rows | None, Past]:
        """One layer's output, None for the first frame of a clip, and what it remembers from now on."""
        if past is not None:
            return self._layers[index].step(past, x)
        assert x is not None
        return None, self._layers[index].begin(x)

    def _merged(self, features: Rows, carrier: Rows, symbol: int) -> Rows:
        """What the decoder takes in, (rows, FEATURES + 2)."""
        return np.concatenate((features, carrier, self._messages[symbol]), axis=1)


class _Row:
    """The state of one stream."""

    def __init__(self, lag: int, encoder_lag: int) -> None:
        self.pasts: list[Past | None] = [None] * lag  # of each layer; None before the clip's first frame
        self.carriers: deque[Rows] = deque(maxlen=encoder_lag)  # (rows, 1) each, newest last

    def delay(self, carrier: Rows) -> Rows | None:
        """The carrier that came encoder_lag frames before, if there was one."""
        delayed = self.carriers[0] if len(self.carriers) == self.carriers.maxlen else None
        self.carriers.append(carrier)
        return delayed
