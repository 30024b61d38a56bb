"""The small CSM's shapes, and how a batch runs through it in training: whole sequences, no cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.reference.torchtune_stacks import with_torchtune
from recipes.builtin_voice.csm.tokenizer import VOCAB_SIZE

if TYPE_CHECKING:
    from torchtune.modules import TransformerDecoder


def csm_config(num_codebooks: int, codebook_size: int) -> ModelConfig:
    return ModelConfig(
        backbone=TransformerConfig(num_layers=6, dim=384, num_heads=6, num_kv_heads=2, ffn_dim=896),
        depth_decoder=TransformerConfig(num_layers=3, dim=192, num_heads=3, num_kv_heads=1, ffn_dim=512),
        text_vocab_size=VOCAB_SIZE,
        audio_vocab_size=codebook_size + 3,
        num_codebooks=num_codebooks,
        codebook_size=codebook_size,
    )


def new_csm(config: ModelConfig, *, seed: int, device: torch.device | str = "cpu") -> CSM:
    """Random initial weights. Embeddings are small, so that their sum over a frame's codes is about 1."""
    model = with_torchtune(random_model(config, seed=seed, device=device))
    with torch.no_grad():
        model.text_embeddings.weight.mul_(0.5)
        model.audio_embeddings.weight.mul_(0.5 / config.num_codebooks**0.5)
        for name, parameter in model.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(1.0)
            if name.endswith(("output_proj.weight", "w2.weight")):
                parameter.mul_(0.3)  # small residuals at first
    return model.train().requires_grad_(True)


def backbone_states(model: CSM, tokens: Tensor, is_audio: Tensor) -> Tensor:
    """The backbone's states, (B, T, D). tokens: (B, T, K + 1). is_audio: (B, T). Causal, so padding changes nothing."""
    rows, length, width = tokens.shape
    mask = is_audio[..., None].expand(rows, length, width).clone()
    mask[..., -1] = ~is_audio
    embedded = model.embed_rows(tokens.masked_fill(~mask, -1).view(-1, width))
    return _run(model.backbone, embedded.view(rows, length, -1))


def depth_logits(model: CSM, states: Tensor, codes: Tensor) -> Tensor:
    """Logits of codebooks 1 on, (N, K - 1, V). states: (N, D), before each frame. codes: (N, K), of the frames."""
    earlier = codes[:, :-1] + torch.arange(codes.shape[1] - 1, device=codes.device) * model.config.audio_vocab_size
    inputs = torch.cat([states[:, None], model.audio_embeddings(earlier).to(states.dtype)], dim=1)
    hidden = _run(model.depth_decoder, model.projection(inputs))[:, 1:]
    return torch.einsum("nkd,kdv->nkv", hidden, model.audio_head.to(hidden.dtype))


def _run(stack: TransformerDecoder, x: Tensor) -> Tensor:
    for layer in stack.layers:
        x = layer(x)
    return stack.norm(x)
