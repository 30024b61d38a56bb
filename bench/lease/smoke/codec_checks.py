"""Checks of the codec's captured steps, with the built-in voice's networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.lease.options import Given
from csm_codec.mimi.batch.lanes import BatchLanes
from csm_codec.mimi.loader import load_mimi
from csm_codec.resample import Pcm
from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import load_silentcipher
from csm_codec.watermark.stream.level import RunningLevel

BUILTIN = Path(__file__).parents[3] / "bundles" / "builtin"
RATE_HZ, ROWS, FRAMES = 24000, 8, 6
CPU = torch.device("cpu")


def attention_has_its_one_kernel(given: Given) -> dict[str, object]:
    """The backend that Mimi's transformer asks for takes its shapes, and keys and values in one ring."""
    worst = 0.0
    for dtype in (torch.float32, torch.bfloat16):
        query = torch.randn(64, 2, 8, 64, device=given.device).to(dtype).transpose(1, 2)
        ring = torch.randn(64, 256, 2, 8, 64, device=given.device).to(dtype)
        keys, values = (ring[:, :, index].transpose(1, 2) for index in (0, 1))
        mask = torch.zeros(64, 1, 2, 256, device=given.device, dtype=dtype)
        mask[:, :, 0, 200:] = -torch.inf
        made = []
        for backend in (SDPBackend.EFFICIENT_ATTENTION if given.on_gpu else SDPBackend.MATH, SDPBackend.MATH):
            with sdpa_kernel(backend):  # raises where it cannot
                made.append(functional.scaled_dot_product_attention(query, keys, values, mask).float())
        worst = max(worst, float((made[0] - made[1]).abs().max()))
    assert worst < 2e-2, worst
    return {"difference": worst}


def mimi_is_that_of_a_cpu(given: Given) -> dict[str, object]:
    """Captured frames of two buckets: rounding differs, and what the vendor multiplies in TF32."""
    sounds = []
    for device in (CPU, given.device):
        mimi = load_mimi(BUILTIN / "mimi", device=device)
        lanes, identity = BatchLanes(mimi, 1, 2 * ROWS, torch.float32), mimi.identity
        shape = (FRAMES, 2 * ROWS, identity.codebook_count)
        codes = np.random.default_rng(0).integers(0, identity.codebook_size, shape)
        none = torch.zeros(2 * ROWS, dtype=torch.bool)
        frames = []
        for index, frame in enumerate(codes):
            takes_part = torch.arange(2 * ROWS) < (ROWS if index % 2 else 2 * ROWS)
            made = lanes.frame_step(0, torch.from_numpy(frame), takes_part, ~none if index == 0 else none)
            frames.append(made[:ROWS].clone())
        sounds.append(torch.cat(frames))
    return _near(sounds[0].numpy(), sounds[1].numpy())


def mark_is_that_of_a_cpu(given: Given) -> dict[str, object]:
    """Captured transforms, convolutions and overlap; the mark alone, which is some hundredths of the sound."""
    clip = (0.07 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)).astype(np.float32)
    marks = []
    for device in (CPU, given.device):
        networks = load_silentcipher(BUILTIN / "silentcipher", device=device)
        embedder = Embedder(networks, sample_rate_hz=RATE_HZ, num_slots=2, lane_width=2)
        embedder.join(0, frame_symbols(b"\x01\x02\x03\x04\x05"), RunningLevel(embedder.n_fft))
        marks.append(embedder.push({0: Chunk(clip, last=True)})[0] - clip)
    return _near(*marks)


def _near(expected: Pcm, made: Pcm) -> dict[str, object]:
    difference = float(np.abs(made - expected).max() / np.abs(expected).max())
    assert made.shape == expected.shape and difference < 2e-2, (made.shape, expected.shape, difference)
    return {"difference": difference}
