"""How far Mimi's decoder and the watermark in bfloat16 are from float32. Same input for both, separate states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from csm_codec.mimi.decoder import MimiDecoder
from csm_codec.mimi.loader import load_mimi
from csm_codec.resample import Pcm
from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.level import RunningLevel

FRAMES = 50  # four seconds
STREAMS = 2


def bfloat16_snr(mimi: Path, device: torch.device) -> dict[str, float]:
    """The ratio of signal to difference in dB: for all audio, and for the worst single frame."""
    exact, rounded = (_decoded(mimi, device, dtype) for dtype in (torch.float32, torch.bfloat16))
    signal, difference = (np.square(x, dtype=np.float64).sum(axis=-1) for x in (exact, exact - rounded))
    return {
        "frames": FRAMES * STREAMS,
        "snr_db": round(float(10 * np.log10(signal.sum() / difference.sum())), 1),
        "least_frame_snr_db": round(float(10 * np.log10((signal / difference).min())), 1),
    }


def bfloat16_mark_snr_db(silentcipher: SilentCipher, clip: Pcm, rate_hz: int) -> float:
    """The ratio in dB of the watermark in float32 to its difference from bfloat16, with the embedder for CPUs."""
    exact, rounded = (_mark(silentcipher, clip, rate_hz, dtype) for dtype in (torch.float32, torch.bfloat16))
    return round(float(10 * np.log10(np.square(exact).sum() / np.square(exact - rounded).sum())), 1)


def _mark(silentcipher: SilentCipher, clip: Pcm, rate_hz: int, dtype: torch.dtype) -> Pcm:
    """The watermark: what is added to the clip."""
    embedder = Embedder(silentcipher, sample_rate_hz=rate_hz, num_slots=1, lane_width=1, dtype=dtype)
    embedder.join(0, frame_symbols(b"bench"), RunningLevel(embedder.n_fft))
    return embedder.push({0: Chunk(clip, last=True)})[0] - clip


def _decoded(path: Path, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """(frames, STREAMS, samples), fp32"""
    mimi = load_mimi(path, device=device)  # loaded again, as bfloat16 converts the weights in place
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=STREAMS, dtype=dtype)
    shape = (FRAMES, STREAMS, mimi.identity.codebook_count)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, mimi.identity.codebook_size, shape))
    everyone = torch.ones(STREAMS, dtype=torch.bool)
    pcm = [
        decoder.frame_step(0, frame, everyone, everyone if index == 0 else ~everyone)
        for index, frame in enumerate(codes)
    ]
    return torch.stack(pcm).cpu().numpy()
