"""Looks for the watermark of known keys in a recording.

The message decoder reads one symbol per STFT frame. A recording may begin anywhere between two frames of the embedder,
so several phases of the frame grid are tried: phase 0, then coarse phases on a short loud piece, then fine phases about
the best one. The loudest six seconds are read at the best phase. A recording may also begin anywhere in the message, so
all 21 shifts are tried. false_alarm.py says how many symbols must agree.

With untrained networks nothing can be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from csm_codec.resample import Pcm, resample
from csm_codec.watermark.detect.false_alarm import needed_agreements
from csm_codec.watermark.detect.loudest import loudest
from csm_codec.watermark.detect.pieces import Pieces, result_of
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import MESSAGE_DIM, SilentCipher
from csm_codec.watermark.stream.level import NOMINAL_POWER

COARSE_PHASES = 8  # over one hop
FINE_PHASES = 4  # on each side of the best coarse one
SEARCH_PERIODS = 2  # length of the piece on which phases are tried
READ_SECONDS = 6.0  # s; at most so much is read, where the recording is loudest

Votes = npt.NDArray[np.float32]  # (PERIOD, MESSAGE_DIM): how much speaks for each symbol, by position


@dataclass(frozen=True, slots=True)
class Detection:
    """The key that fits best.

    confidence: share of the key's symbols that agree, 0 to 1. In unmarked audio the best of many tries reaches about a
    half. `detected` is the verdict.
    """

    detected: bool
    confidence: float
    key_id: str  # "" unless detected


def detect(silentcipher: SilentCipher, keys: Sequence[WatermarkKey], pcm: Pcm, sample_rate_hz: int) -> Detection:
    """Looks for any of `keys` in a mono recording of any length and rate."""
    rate_hz = silentcipher.hparams.sample_rate_hz
    native = resample(pcm, sample_rate_hz, rate_hz)
    reading = native[loudest(native, round(READ_SECONDS * rate_hz))]
    return result_of(detect_in_pieces(silentcipher, keys, reading))


def detect_in_pieces(silentcipher: SilentCipher, keys: Sequence[WatermarkKey], reading: Pcm) -> Pieces[Detection]:
    """Looks for the keys in the whole of a short recording at the networks' rate, in as many pieces as readings."""
    power = float(np.mean(np.square(reading, dtype=np.float64))) if len(reading) else 0.0
    if not keys or power == 0:
        return Detection(False, 0.0, "")
    reading = reading * np.float32((NOMINAL_POWER / power) ** 0.5)
    needed = needed_agreements((1 + COARSE_PHASES + 2 * FINE_PHASES) * PERIOD * len(keys))
    expected = np.array([frame_symbols(key.payload) for key in keys])
    yield
    agreements = most_agreements(read_votes(silentcipher, reading), expected)
    if agreements.max() < needed:
        phase = yield from _best_phase(silentcipher, reading, expected)
        yield
        agreements = np.maximum(agreements, most_agreements(read_votes(silentcipher, reading[phase:]), expected))
    best = int(agreements.argmax())
    detected = bool(agreements[best] >= needed)
    return Detection(detected, float(agreements[best]) / NUM_SYMBOLS, keys[best].id if detected else "")


def read_votes(silentcipher: SilentCipher, pcm: Pcm) -> Votes:
    """Sums each frame's probabilities at its place in the message, counted from the recording's first frame."""
    probabilities = read_frames(silentcipher, pcm)
    votes = np.zeros((PERIOD, MESSAGE_DIM), np.float32)
    np.add.at(votes, np.arange(len(probabilities)) % PERIOD, probabilities)
    return votes


def most_agreements(votes: Votes, expected: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The most symbols that agree at any shift of the message, for each key.

    expected: (keys, PERIOD), end mark last. The comparison takes the same time for any keys.
    """
    heard = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
    shifted = np.stack([np.roll(heard, shift) for shift in range(PERIOD)])[:, :NUM_SYMBOLS]
    agreeing = shifted[None] == expected[:, None, :NUM_SYMBOLS]  # (keys, shifts, symbols)
    return np.asarray(agreeing.sum(axis=2).max(axis=1))


def _best_phase(silentcipher: SilentCipher, pcm: Pcm, expected: npt.NDArray[np.int64]) -> Pieces[int]:
    """Samples to leave out at the beginning of `pcm` so that frames fall where the embedder's did."""
    hop = silentcipher.hparams.hop
    where = loudest(pcm, (SEARCH_PERIODS * PERIOD + 2) * hop)
    piece = pcm[where]

    def best_of(phases: Sequence[int]) -> Pieces[int]:
        agreements = []
        for phase in phases:
            yield
            agreements.append(int(most_agreements(read_votes(silentcipher, piece[phase % hop :]), expected).max()))
        return phases[int(np.argmax(agreements))]

    coarse = hop // COARSE_PHASES
    best = yield from best_of(range(0, hop, coarse))
    fine = max(1, coarse // (FINE_PHASES + 1))
    best = yield from best_of([best + step * fine for step in range(-FINE_PHASES, FINE_PHASES + 1)])
    return (where.start + best) % hop


@torch.inference_mode()
def read_frames(silentcipher: SilentCipher, pcm: Pcm) -> npt.NDArray[np.float32]:
    """The probabilities of each frame, (frames, MESSAGE_DIM).

    Frames are as the package takes them: padded to whole windows, mirrored at the ends.
    """
    hparams = silentcipher.hparams
    device = silentcipher.device
    padded = np.pad(pcm, (0, hparams.n_fft - len(pcm) % hparams.n_fft))
    window = torch.hann_window(hparams.n_fft, device=device)
    spectrum = torch.stft(
        torch.from_numpy(padded).to(device), hparams.n_fft, hparams.hop, window=window, return_complex=True
    )
    logits = silentcipher.message_decoder(spectrum.abs()[None, None, : hparams.band])  # (1, 1, MESSAGE_DIM, frames)
    return np.asarray(logits[0, 0].T.softmax(dim=1).cpu().numpy(), dtype=np.float32)
