"""What the message decoder reads at every place of a recording: one reading per quarter of a hop, made block by block.

A recording may be cut anywhere, so frames are taken on a grid finer than the embedder's: frame h is centred at sample
h * hop / PHASES. The decoder reads each phase of the grid as its own row of frames. Half of the phases are read
everywhere; those between them only in blocks where a caller asks for them (see scanner.py). Blocks have fixed places,
so the readings do not depend on how the recording comes in. Memory: one block of audio.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csm_codec.resample import Pcm
from csm_codec.watermark.detect.evidence import PHASES, Floats
from csm_codec.watermark.networks.silentcipher import MESSAGE_DIM, SilentCipher
from csm_codec.watermark.stream.level import LEAST_POWER, NOMINAL_POWER

BLOCK_FRAMES = 252  # of one phase; a multiple of the message's period
LEVEL_FRAMES = 48  # of one phase, over which loudness is averaged
_LEAST_PROBABILITY = 0.02  # a reading that is sure and wrong costs no more than log(0.02)


class SymbolGrid:
    """Audio at the network's rate in, blocks of it out, ready to be read."""

    def __init__(self, silentcipher: SilentCipher) -> None:
        hparams = silentcipher.hparams
        self._networks = silentcipher
        self._hop, self._n_fft, self._band = hparams.hop, hparams.n_fft, hparams.band
        self._step = hparams.hop // PHASES
        self._margin = hparams.reader_layers  # frames that a reading sees on either side
        self._window = torch.hann_window(hparams.n_fft, device=silentcipher.device)
        lead = self._hop + self._margin * self._hop  # frame 0 is centred at sample 0 and sees its whole margin
        self._audio: Pcm = np.zeros(lead, np.float32)
        self._block_samples = BLOCK_FRAMES * self._hop
        self._needed = (BLOCK_FRAMES + 2 * self._margin + 1) * self._hop + (PHASES - 1) * self._step

    def push(self, pcm: Pcm) -> list[Block]:
        """The blocks that are whole by now."""
        self._audio = np.concatenate((self._audio, pcm))
        blocks = []
        while len(self._audio) >= self._needed:
            blocks.append(self._take(BLOCK_FRAMES))
        return blocks

    def finish(self) -> list[Block]:
        """The rest, with silence behind it."""
        left = len(self._audio) - (1 + self._margin) * self._hop  # samples past the centre of the next frame
        blocks = []
        while left > 0:
            self._audio = np.pad(self._audio, (0, max(0, self._needed - len(self._audio))))
            blocks.append(self._take(min(BLOCK_FRAMES, -(-left // self._hop))))
            left -= self._block_samples
        return blocks

    def _take(self, num_frames: int) -> Block:
        audio = torch.from_numpy(self._audio[: self._needed]).to(self._window.device)
        self._audio = self._audio[self._block_samples :]
        return Block(self, audio, num_frames)

    @torch.inference_mode()
    def read(self, audio: Tensor, phases: slice, num_frames: int) -> Floats:
        """Log-probabilities (phases, num_frames, MESSAGE_DIM), zero where a frame is silent."""
        frames = audio.unfold(0, self._n_fft, self._step)
        count = BLOCK_FRAMES + 2 * self._margin
        frames = frames[: count * PHASES].unflatten(0, (count, PHASES)).transpose(0, 1)[phases]
        spectrum = torch.fft.rfft(frames * self._window).abs()  # (phases, frames, bins)
        power = frames.square().mean(dim=2)
        level = _moving_mean(power, LEVEL_FRAMES).clamp_min(LEAST_POWER)
        silent = power < LEAST_POWER
        if bool(silent.all()):
            return np.zeros((len(frames), num_frames, MESSAGE_DIM), np.float32)
        spectrum = spectrum[:, :, : self._band] * (NOMINAL_POWER / level).sqrt()[:, :, None]
        carrier = spectrum.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        logits = self._networks.message_decoder(carrier)[:, 0]  # (phases, MESSAGE_DIM, frames)
        probabilities = logits.transpose(1, 2).softmax(dim=2).clamp_min(_LEAST_PROBABILITY)
        readings = torch.where(silent[:, :, None], 0.0, probabilities.log())
        return np.asarray(readings[:, self._margin : self._margin + num_frames].float().cpu().numpy())


class Block:
    """BLOCK_FRAMES frames of each phase, or fewer at the end of a recording."""

    def __init__(self, grid: SymbolGrid, audio: Tensor, num_frames: int) -> None:
        self._grid, self._audio = grid, audio
        self.num_frames = num_frames

    def read(self, *, between: bool) -> Floats:
        """Log-probabilities (PHASES / 2, num_frames, MESSAGE_DIM) of the even phases, or of the odd ones `between`."""
        return self._grid.read(self._audio, slice(1 if between else 0, None, 2), self.num_frames)


def _moving_mean(power: Tensor, length: int) -> Tensor:
    """(phases, frames): the mean over `length` frames around each; over fewer at the ends."""
    return torch.nn.functional.avg_pool1d(
        power[:, None], length + 1, stride=1, padding=length // 2, count_include_pad=False
    )[:, 0]
