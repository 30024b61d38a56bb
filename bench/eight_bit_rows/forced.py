"""Teacher-forced logits: prompts and codes are the same for every arm, so each code is compared separately."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gate import relative_error, same_best
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.weights import PackedWeights

SLOTS = 16


def hidden_of(weights: PackedWeights, prompts: Sequence[Tensor], codes: Sequence[Tensor]) -> Tensor:
    """The backbone's states before each frame, (all frames, D). prompts: (T, D) each. codes: (frames, K) each."""
    step, found = PackedFrameStep(weights, SLOTS), []
    for at in range(0, len(prompts), SLOTS):
        found += _hidden_of_some(step, prompts[at : at + SLOTS], codes[at : at + SLOTS])
    return torch.cat(found)


def logits_of(weights: PackedWeights, hidden: Tensor, codes: Sequence[Tensor]) -> Tensor:
    """Logits of the codes that can be drawn, (all frames, K, V). hidden, codes: as of `hidden_of`."""
    step = PackedFrameStep(weights, 1)
    first = ops.linear(hidden, weights.codebook0_head)
    logits = torch.cat([first.unsqueeze(1), step.depth_decoder.logits(hidden, torch.cat(list(codes)))], dim=1)
    return logits[:, :, : weights.config.codebook_size]


def compared(logits: Tensor, exact: Tensor) -> dict[str, object]:
    """Compares logits with the exact ones, (frames, K, V) each, for all codebooks and for the depth decoder's.

    `relative` is the root mean square of the change over that of the exact logits, `same_best` the share of codes that
    stay the most likely, `divergence` the mean Kullback-Leibler divergence from the exact probabilities in nats.
    """
    return {
        "relative": relative_error(logits, exact),
        "same_best": same_best(logits, exact),
        "depth_relative": relative_error(logits[:, 1:], exact[:, 1:]),
        "depth_same_best": same_best(logits[:, 1:], exact[:, 1:]),
        "depth_divergence": round(_divergence(logits[:, 1:], exact[:, 1:]), 6),
    }


def _hidden_of_some(step: PackedFrameStep, prompts: Sequence[Tensor], codes: Sequence[Tensor]) -> list[Tensor]:
    config, table = step.config, step.weights.audio_embeddings
    offsets = torch.arange(config.num_codebooks) * config.audio_vocab_size
    inputs = []
    for slot, (prompt, its) in enumerate(zip(prompts, codes, strict=True)):
        step.backbone.prefill(prompt[:-1], slot, 0)
        inputs.append(torch.cat([prompt[-1:], F.embedding(its[:-1] + offsets, table).sum(dim=1)]))
    found: list[list[Tensor]] = [[] for _ in prompts]
    for frame in range(max(map(len, codes))):
        slots = [slot for slot, its in enumerate(codes) if frame < len(its)]
        positions = torch.tensor([len(prompts[slot]) - 1 + frame for slot in slots])
        x = torch.stack([inputs[slot][frame] for slot in slots])
        for slot, state in zip(slots, step.backbone.step(x, torch.tensor(slots), positions), strict=True):
            found[slot].append(state)
    return [torch.stack(states) for states in found]


def _divergence(logits: Tensor, exact: Tensor) -> float:
    ours, right = (torch.log_softmax(x, dim=-1) for x in (logits, exact))
    return F.kl_div(ours, right, reduction="sum", log_target=True).item() / (logits.shape[0] * logits.shape[1])
