"""CSM's weights in torchtune's modules, which run them.

Importing torchtune takes seconds, so it is imported when the first stack is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from csm_engine.model.csm import CSM
from csm_engine.model.shapes import TransformerConfig

if TYPE_CHECKING:
    from torchtune.modules import TransformerDecoder


def with_torchtune(model: CSM) -> CSM:
    """The same weights, of which nothing is copied, in stacks that run. Rotary tables are computed on their device."""
    from torchtune.models.llama3_1._position_embeddings import Llama3ScaledRoPE

    with torch.device("meta"):
        running = CSM(model.config, torchtune_stack)
    running.load_state_dict(model.state_dict(), strict=True, assign=True)
    with torch.device(model.device):
        for module in running.modules():
            if isinstance(module, Llama3ScaledRoPE):
                module.rope_init()
    return running.eval().requires_grad_(False)


def torchtune_stack(config: TransformerConfig) -> TransformerDecoder:
    from torchtune.models.llama3_2 import llama3_2

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


def run_layers(stack: TransformerDecoder, x: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """x: (B, T, D); mask: (B, T, window) bool; positions: (B, T) -> hidden states after the last norm."""
    for layer in stack.layers:
        x = layer(x, mask=mask, input_pos=positions)
    return stack.norm(x)
