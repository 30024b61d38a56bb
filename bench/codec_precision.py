"""How far Mimi's decoder in bfloat16 is from float32: the same codes through both, each with a state of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from csm_engine.codec.mimi import load_mimi
from csm_engine.codec.mimi_decoder import MimiDecoder

FRAMES = 50  # four seconds
STREAMS = 2


def bfloat16_snr(mimi: Path, device: torch.device) -> dict[str, float]:
    """Signal to difference in dB: of all audio, and of the worst single frame."""
    exact, rounded = (_decoded(mimi, device, dtype) for dtype in (torch.float32, torch.bfloat16))
    signal, difference = (np.square(x, dtype=np.float64).sum(axis=-1) for x in (exact, exact - rounded))
    return {
        "frames": FRAMES * STREAMS,
        "snr_db": round(float(10 * np.log10(signal.sum() / difference.sum())), 1),
        "least_frame_snr_db": round(float(10 * np.log10((signal / difference).min())), 1),
    }


def _decoded(path: Path, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """(frames, STREAMS, samples), fp32"""
    mimi = load_mimi(path, device=device)  # anew: bfloat16 converts the weights in place
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=STREAMS, dtype=dtype)
    shape = (FRAMES, STREAMS, mimi.identity.codebook_count)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, mimi.identity.codebook_size, shape))
    everyone = torch.ones(STREAMS, dtype=torch.bool)
    pcm = [
        decoder.frame_step(0, frame, everyone, everyone if index == 0 else ~everyone)
        for index, frame in enumerate(codes)
    ]
    return torch.stack(pcm).cpu().numpy()
