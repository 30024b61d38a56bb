"""CSM's weights: a Llama 3.2 backbone over text and audio embeddings, and a small depth decoder over codebooks.

Names are those of the published checkpoint, except `depth_decoder` (there: `decoder`). The stacks hold weights and do
not run: the fast step packs them, and csm_engine/reference runs the same weights in torchtune's modules.
Source: github.com/SesameAILabs/csm models.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from csm_engine.model.shapes import ModelConfig, TransformerConfig


class CSM(nn.Module):
    """Weights and embeddings. Shapes: B rows, T positions, K codebooks, D backbone width."""

    def __init__(self, config: ModelConfig, new_stack: Callable[[TransformerConfig], Any] | None = None) -> None:
        """new_stack: makes modules with the parameters of `Stack`; None makes a `Stack`"""
        super().__init__()
        dim, vocab = config.backbone.dim, config.audio_vocab_size
        stack: Callable[[TransformerConfig], Any] = new_stack or Stack
        self.config = config
        self.text_embeddings = Embedding(config.text_vocab_size, dim)
        self.audio_embeddings = Embedding(vocab * config.num_codebooks, dim)
        self.backbone = stack(config.backbone)
        self.projection = Linear(dim, config.depth_decoder.dim, bias=False)
        self.depth_decoder = stack(config.depth_decoder)
        self.codebook0_head = Linear(dim, vocab, bias=False)
        self.audio_head = nn.Parameter(torch.empty(config.num_codebooks - 1, config.depth_decoder.dim, vocab))

    @property
    def device(self) -> torch.device:
        return self.audio_head.device

    @property
    def dtype(self) -> torch.dtype:
        return self.audio_head.dtype

    def embed_rows(self, rows: Tensor) -> Tensor:
        """rows of a prompt: (T, K + 1) int, -1 where masked -> (T, D): the sum of the unmasked embeddings."""
        ids = rows.clamp(min=0)
        audio = self.audio_embeddings(ids[:, :-1] + self._codebook_offsets())
        text = self.text_embeddings(ids[:, -1:])
        embeddings = torch.cat([audio, text], dim=1)  # (T, K + 1, D)
        return (embeddings * (rows >= 0).unsqueeze(-1)).sum(dim=1)

    def embed_frame(self, codes: Tensor) -> Tensor:
        """codes: (B, K) int64 -> (B, D): the backbone's input for the next frame."""
        return self.audio_embeddings(codes + self._codebook_offsets()).sum(dim=1)

    def embed_code(self, code: Tensor, codebook: int) -> Tensor:
        """code: (B,) int64 of one codebook -> (B, D)."""
        return self.audio_embeddings(code + codebook * self.config.audio_vocab_size)

    def _codebook_offsets(self) -> Tensor:
        return torch.arange(self.config.num_codebooks, device=self.device) * self.config.audio_vocab_size


class Stack(nn.Module):
    """The weights of one Llama 3.2 stack, without embeddings and heads."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers: Sequence[Layer] = nn.ModuleList(Layer(config) for _ in range(config.num_layers))  # type: ignore[assignment]
        self.norm = Norm(config.dim)


class Layer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = FeedForward(config)
        self.sa_norm = Norm(config.dim)
        self.mlp_norm = Norm(config.dim)


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, kv_dim = config.dim, config.num_kv_heads * config.head_dim
        self.q_proj = Linear(dim, dim, bias=False)
        self.k_proj = Linear(dim, kv_dim, bias=False)
        self.v_proj = Linear(dim, kv_dim, bias=False)
        self.output_proj = Linear(dim, dim, bias=False)


class FeedForward(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.w1 = Linear(config.dim, config.ffn_dim, bias=False)  # gate
        self.w2 = Linear(config.ffn_dim, config.dim, bias=False)  # down
        self.w3 = Linear(config.dim, config.ffn_dim, bias=False)  # up


class Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))


class Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """Nothing: a loader fills it. torch's own draws numbers, for which it imports its compiler: seconds."""


class Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Nothing, as in Embedding."""


def build_skeleton(config: ModelConfig) -> CSM:
    """A CSM without storage (meta device): a checkpoint's tensors must match its shapes."""
    with torch.device("meta"):
        return CSM(config)
