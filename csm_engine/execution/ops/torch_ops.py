"""The fast step's operations in plain torch. A CPU runs them, and the Triton kernels are compared with them.

Shapes: B rows, D width, H query heads, G key heads, E head dimension, S slots, L positions. Attention goes row by row
over exactly the row's own keys, so a row does not depend on the others' lengths.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.execution.sampling import SamplingRows, gumbel_noise, gumbel_noise_of

_TIES = 8  # candidates past the k-th, so that ties with it are found
_ROWS_OF_WHOLE_NOISE = 2  # largest batch for which one pass over all candidates costs less


@cache
def _constant(value: float) -> Tensor:
    return torch.tensor(value)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x: (B, D); weight: (D,), None is one. In float32, as torchtune's RMSNorm."""
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    normed = wide / torch.hypot(length * x.shape[-1] ** -0.5, _constant(eps**0.5))
    return (normed if weight is None else normed * weight).to(x.dtype)


def silu_mul(gate_up: Tensor) -> Tensor:
    """(B, 2 F), gate before up -> (B, F).

    Float32 does not use torch's silu, which rounds differently at the end of each thread's share of the values: a row's
    last bit would depend on the row's place in the batch.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    if gate.dtype is torch.float32:
        divisor = gate.neg().exp_().add_(1)
        return torch.div(gate, divisor, out=divisor).mul_(up)
    return F.silu(gate) * up


def rotate(heads: Tensor, rope: Tensor) -> Tensor:
    """heads: (B, heads, E); rope: (B, E / 2, 2) or (E / 2, 2): rotates neighbouring pairs, in float32."""
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
    angles = torch.view_as_complex(rope)
    turned = torch.view_as_real(pairs * (angles if angles.dim() == 1 else angles.unsqueeze(1)))
    return turned.flatten(-2).to(heads.dtype)


def backbone_attention(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, rope: Tensor, num_heads: int
) -> Tensor:
    """Writes one position a row into the cache and attends over the slot up to it.

    qkv: (B, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (B,) int64; rope: (L, E / 2, 2) -> (B, H E).
    """
    num_kv_heads, head_dim = keys.shape[2:]
    heads = qkv.view(len(qkv), -1, head_dim)
    turned = rotate(heads[:, : num_heads + num_kv_heads], rope[positions])
    keys[slots, positions] = turned[:, num_heads:].to(keys.dtype)
    values[slots, positions] = heads[:, num_heads + num_kv_heads :].to(values.dtype)
    rows = zip(turned[:, :num_heads].unsqueeze(2), slots.tolist(), positions.tolist(), strict=True)
    attended = [
        F.scaled_dot_product_attention(
            query.unsqueeze(0),
            keys[slot, : position + 1].to(query.dtype).transpose(0, 1).unsqueeze(0),
            values[slot, : position + 1].to(query.dtype).transpose(0, 1).unsqueeze(0),
            enable_gqa=num_heads != num_kv_heads,
        ).flatten(1)
        for query, slot, position in rows
    ]
    return torch.cat(attended)


def embed(ids: Tensor, audio_embeddings: Tensor, text_embeddings: Tensor, audio_vocab_size: int) -> Tensor:
    """ids: (K + 1, T) int64, -1 where masked; embeddings (K V, D) and (text vocabulary, D) -> (T, D), their sums."""
    rows = ids.t()
    known = rows.clamp(min=0)
    offsets = torch.arange(len(ids) - 1) * audio_vocab_size
    audio = F.embedding(known[:, :-1] + offsets, audio_embeddings)
    text = F.embedding(known[:, -1:], text_embeddings)
    return (torch.cat([audio, text], dim=1) * (rows >= 0).unsqueeze(-1)).sum(dim=1)


def write_rows(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, rope: Tensor, num_heads: int
) -> None:
    """qkv: (T, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (T,) int64; rope: (L, E / 2, 2)."""
    num_kv_heads, head_dim = keys.shape[2:]
    heads = qkv.view(len(qkv), -1, head_dim)
    turned = rotate(heads[:, num_heads : num_heads + num_kv_heads], rope[positions])
    keys[slots, positions] = turned.to(keys.dtype)
    values[slots, positions] = heads[:, num_heads + num_kv_heads :].to(values.dtype)


def prompt_attention(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, rope: Tensor, num_heads: int
) -> Tensor:
    """Shapes as in write_rows, whose rows must be written. Rows of a slot follow each other -> (T, H E)."""
    num_kv_heads, head_dim = keys.shape[2:]
    queries = rotate(qkv.view(len(qkv), -1, head_dim)[:, :num_heads], rope[positions])
    attended, at = [], 0
    for slot, rows in groupby(slots.tolist()):
        here = slice(at, at + len(list(rows)))
        at = here.stop
        query, own = queries[here], positions[here]
        end = int(own.max()) + 1
        seen_keys, seen_values = (
            kept[slot, :end].to(query.dtype).repeat_interleave(num_heads // num_kv_heads, dim=1).transpose(0, 1)
            for kept in (keys, values)
        )
        whole = F.scaled_dot_product_attention(
            query.transpose(0, 1).unsqueeze(0),
            seen_keys.unsqueeze(0),
            seen_values.unsqueeze(0),
            attn_mask=torch.arange(end) <= own.unsqueeze(1),
        )
        attended.append(whole[0].transpose(0, 1).flatten(1))
    return torch.cat(attended)


def depth_attention(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    position: int,
    rope: Tensor,
    num_heads: int,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Writes one position of the frame in the making and attends up to it.

    qkv: (B, (H + 2 G) E); keys, values: (B, G, K, E); rope: (positions, E / 2, 2) -> (B, H E), in `out` if given.
    """
    num_kv_heads, head_dim = keys.shape[1], keys.shape[3]
    heads = qkv.view(len(qkv), -1, head_dim)
    turned = rotate(heads[:, : num_heads + num_kv_heads], rope[position])
    keys[:, :, position] = turned[:, num_heads:]
    values[:, :, position] = heads[:, num_heads + num_kv_heads :]
    group = num_heads // num_kv_heads
    query = turned[:, :num_heads].reshape(-1, group, head_dim)  # (B G, H / G, E)
    seen_keys = keys[:, :, : position + 1].flatten(0, 1)
    seen_values = values[:, :, : position + 1].flatten(0, 1)
    scores = torch.bmm(query * head_dim**-0.5, seen_keys.transpose(1, 2))
    weights = torch.softmax(scores.float(), dim=-1).to(query.dtype)
    attended = torch.bmm(weights, seen_values).view(len(qkv), -1)
    return attended if out is None else out.copy_(attended)


class FrameDraw:
    """Samples the codes of one frame. Values that all codebooks share are computed once, here.

    sampling: of B rows; frame: (B,) int64. Small batches compute the noise of the whole frame at once, larger ones only
    that of the candidates. The numbers are the same.
    """

    def __init__(self, sampling: SamplingRows, frame: Tensor, num_codebooks: int, codebook_size: int) -> None:
        self._seed, self._frame, self._codebook_size = sampling.seed, frame, codebook_size
        self._temperature = sampling.temperature.unsqueeze(-1)
        self._count = min(int(sampling.top_k.max()) + _TIES, codebook_size)
        self._last = (sampling.top_k.clamp(max=self._count) - 1).unsqueeze(-1)
        self._noise = None
        if len(frame) <= _ROWS_OF_WHOLE_NOISE:
            self._noise = gumbel_noise(sampling.seed, frame, num_codebooks, codebook_size)

    def sample(self, logits: Tensor, codebook: int) -> Tensor:
        """logits: (B, V) of one codebook -> (B,) int64 codes, `codebook_size` where a logit is NaN. Ties go to the
        lowest id.
        """
        logits = logits[:, : self._codebook_size].float()
        values, ids = torch.topk(logits, self._count, dim=-1)
        threshold = values.gather(-1, self._last)
        if self._count < self._codebook_size and bool((values[:, -1:] >= threshold).any()):
            # Ties at the k-th place may reach past the candidates: take every id as one.
            values, ids = logits, torch.arange(self._codebook_size).expand_as(logits)
        scores = values + self._temperature * self._noise_of(codebook, ids)
        scores = scores.masked_fill(values < threshold, float("-inf"))
        is_best = scores == scores.amax(dim=-1, keepdim=True)
        return ids.masked_fill(~is_best, self._codebook_size).amin(dim=-1)

    def _noise_of(self, codebook: int, ids: Tensor) -> Tensor:
        if self._noise is None:
            return gumbel_noise_of(self._seed, self._frame, codebook, ids)
        return self._noise[:, codebook].gather(-1, ids)
