"""The interface of a frame step. The packed step, its CUDA graphs and the reference step implement it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.kv.cache import SlotKVCache
from csm_engine.model.shapes import ModelConfig


class Backbone(Protocol):
    """The transformer over the conversation, with a KV cache for each slot."""

    @property
    def cache(self) -> SlotKVCache: ...

    def prefill(self, embeddings: Tensor, slot: int, start: int, /) -> object:
        """Writes keys and values of one slot from position `start` on. embeddings: (positions, D)."""


class Step(Protocol):
    """Makes one frame of each of many slots. K: codebooks; D: width of the backbone."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def backbone(self) -> Backbone: ...

    @property
    def state(self) -> SlotState: ...

    @property
    def timer(self) -> StageTimer[str]: ...

    def embed_tokens(self, tokens: Tensor, tokens_mask: Tensor, /) -> Tensor:
        """tokens, tokens_mask: (positions, K + 1) each -> (positions, D)."""

    def __call__(self, slots: Tensor, /) -> Tensor:
        """slots: (B,) -> (B, K + 1) int16, K codes and an Outcome."""
