"""What the loop asks of a frame step: the packed one, its graphs, or the reference that they are compared with."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.kv.cache import SlotKVCache
from csm_engine.model.shapes import ModelConfig


class Backbone(Protocol):
    """The stack over the conversation, with a cache for each slot."""

    @property
    def cache(self) -> SlotKVCache: ...

    def prefill(self, embeddings: Tensor, slot: int, start: int, /) -> object:
        """Writes keys and values of positions from `start`. embeddings: (positions, D)."""


class Step(Protocol):
    """One frame of many slots. K: codebooks; D: width of the backbone."""

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
        """(positions, K + 1), twice -> (positions, D)."""

    def __call__(self, slots: Tensor, /) -> Tensor:
        """slots: (B,) -> (B, K + 1) int16, codes and Outcome."""
