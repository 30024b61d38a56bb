"""Sampling parameters of many rows, and the Gumbel noise of their candidates. It does not know the model.

The noise of one candidate depends only on (seed, frame, codebook, token id), not on the row, the batch, or when the
request joined. So a request can be replayed from its seed and resumed from any frame.

Random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), written in
int64 so that CPU and GPU compute the same integers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from csm_bundle.sampling import LIMITS, SamplingParams

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_LANES = 4  # 32-bit words per Philox block: four neighbouring token ids share one


Words = Any  # torch int64 tensors, or numpy uint64 arrays


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> tuple[Words, Words, Words, Words]:
    """Four words of counter and two of key, each 0..2**32-1, which broadcast -> four words of random bits.

    The words are torch int64 or numpy uint64. Products wrap mod 2**64 in both, so the results are equal.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def gumbel_noise(seed: Tensor, frame: Tensor, num_codebooks: int, vocab_size: int) -> Tensor:
    """seed, frame: (B,) int64 -> (B, num_codebooks, vocab_size) float32 standard Gumbel noise of one frame.

    Uniforms are (n + 0.5) / 2**23 with n of 23 bits: float32 holds them exactly, and none is 0 or 1.
    """
    blocks = torch.arange(-(-vocab_size // _LANES), device=seed.device)
    codebooks = torch.arange(num_codebooks, device=seed.device).view(-1, 1)
    seed, frame = seed.view(-1, 1, 1), frame.view(-1, 1, 1)
    words = philox((blocks, codebooks, frame, torch.zeros_like(frame)), (seed & _MASK, (seed >> 32) & _MASK))
    lanes = torch.stack(torch.broadcast_tensors(*words), dim=-1)
    return _gumbel(lanes.flatten(-2)[..., :vocab_size])


def gumbel_noise_of(seed: Tensor, frame: Tensor, codebook: int, ids: Tensor) -> Tensor:
    """The same noise for given candidates of one codebook, on a CPU. It uses numpy, whose calls cost less there.

    seed, frame: (B,) int64; ids: (B, N) int64 -> (B, N) float32.
    """
    seeds, frames, candidates = (
        tensor.numpy().astype(np.uint64) for tensor in (seed.unsqueeze(1), frame.unsqueeze(1), ids)
    )
    counter = (candidates >> 2, np.full_like(frames, codebook), frames, np.zeros_like(frames))
    words = philox(counter, (seeds & _MASK, seeds >> 32))
    word = np.choose(ids.numpy() & 3, words)
    return _gumbel(torch.from_numpy(word.astype(np.int64)))


def _gumbel(words: Tensor) -> Tensor:
    uniform = ((words >> 9).float() + 0.5) * 2.0**-23
    return -torch.log(-torch.log(uniform))


_DTYPES = {float: torch.float32, int: torch.int64}


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """SamplingParams of many rows, on the device: (B,) each, float32 or int64."""

    temperature: Tensor  # 0 is greedy
    top_k: Tensor  # at least 1
    seed: Tensor

    @classmethod
    def empty(cls, num_rows: int, device: torch.device) -> Self:
        """Rows of the smallest allowed values, with which padding can be sampled."""
        limits = {field.name: LIMITS[field.name] for field in fields(cls)}
        return cls(
            **{
                name: torch.full((num_rows,), limit.least, dtype=_DTYPES[limit.kind], device=device)
                for name, limit in limits.items()
            }
        )

    def set(self, row: int, sampling: SamplingParams) -> None:
        for field in fields(self):
            getattr(self, field.name)[row] = getattr(sampling, field.name)

    def set_rows(self, rows: Tensor, values: SamplingRows) -> None:
        """rows: (N,) int64; values: of N rows."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(values, field.name)

    def at(self, rows: Tensor | slice) -> Self:
        """The parameters of the given rows. rows: (N,) int64, or a slice."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the codes of a frame are drawn by: parameters of every slot; the rows' slots and frames, (B,) int64; and the
    drawn codes, (B, K).
    """

    sampling: SamplingRows
    slots: Tensor
    frame: Tensor
    codes: Tensor
