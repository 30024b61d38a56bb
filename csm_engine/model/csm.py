"""CSM's modules: a Llama 3.2 backbone over text and audio embeddings, and a small depth decoder over codebooks.

Attribute names are those of the published checkpoint, except `depth_decoder` (there: `decoder`). The stacks are
torchtune's. This module does not know how they are run, cached or sampled.
Source: github.com/SesameAILabs/csm models.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchtune.models.llama3_1._position_embeddings import Llama3ScaledRoPE
from torchtune.models.llama3_2 import llama3_2
from torchtune.modules import TransformerDecoder

from csm_engine.model.shapes import ModelConfig, TransformerConfig


class CSM(nn.Module):
    """Weights and embeddings. Shapes: B rows, T positions, K codebooks, D backbone width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, vocab = config.backbone.dim, config.audio_vocab_size
        self.config = config
        self.text_embeddings = nn.Embedding(config.text_vocab_size, dim)
        self.audio_embeddings = nn.Embedding(vocab * config.num_codebooks, dim)
        self.backbone = _stack(config.backbone)
        self.projection = nn.Linear(dim, config.depth_decoder.dim, bias=False)
        self.depth_decoder = _stack(config.depth_decoder)
        self.codebook0_head = nn.Linear(dim, vocab, bias=False)
        self.audio_head = nn.Parameter(torch.empty(config.num_codebooks - 1, config.depth_decoder.dim, vocab))

    @property
    def device(self) -> torch.device:
        return self.audio_head.device

    @property
    def dtype(self) -> torch.dtype:
        return self.audio_head.dtype

    def embed_tokens(self, tokens: Tensor, tokens_mask: Tensor) -> Tensor:
        """tokens, tokens_mask: (T, K + 1) int64 and bool -> (T, D): the sum of the unmasked embeddings."""
        audio = self.audio_embeddings(tokens[:, :-1] + self._codebook_offsets())
        text = self.text_embeddings(tokens[:, -1:])
        embeddings = torch.cat([audio, text], dim=1)  # (T, K + 1, D)
        return (embeddings * tokens_mask.unsqueeze(-1)).sum(dim=1)

    def embed_frame(self, codes: Tensor) -> Tensor:
        """codes: (B, K) int64 -> (B, D): the backbone's input for the next frame."""
        return self.audio_embeddings(codes + self._codebook_offsets()).sum(dim=1)

    def embed_code(self, code: Tensor, codebook: int) -> Tensor:
        """code: (B,) int64 of one codebook -> (B, D)."""
        return self.audio_embeddings(code + codebook * self.config.audio_vocab_size)

    def _codebook_offsets(self) -> Tensor:
        return torch.arange(self.config.num_codebooks, device=self.device) * self.config.audio_vocab_size


def _stack(config: TransformerConfig) -> TransformerDecoder:
    stack = llama3_2(
        vocab_size=1,  # embeddings and heads are CSM's own
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        embed_dim=config.dim,
        max_seq_len=config.max_seq_len,
        intermediate_dim=config.ffn_dim,
        norm_eps=config.norm_eps,
        rope_base=config.rope_base,
        scale_factor=config.rope_scale_factor,
    )
    stack.tok_embeddings = nn.Identity()
    stack.output = nn.Identity()
    return stack


def build_skeleton(config: ModelConfig) -> CSM:
    """A CSM without storage (meta device): a checkpoint's tensors must match its shapes."""
    with torch.device("meta"):
        return CSM(config)


def build_rope(model: CSM, device: torch.device) -> None:
    """Computes the rotary tables, which no checkpoint carries, in fp32 on the device."""
    with torch.device(device):
        for module in model.modules():
            if isinstance(module, Llama3ScaledRoPE):
                module.rope_init()


def run_layers(stack: TransformerDecoder, x: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """x: (B, T, D); mask: (B, T, window) bool; positions: (B, T) -> hidden states after the last norm."""
    for layer in stack.layers:
        x = layer(x, mask=mask, input_pos=positions)
    return stack.norm(x)
