"""The interface of a frame step. The packed step, its CUDA graphs and the reference step implement it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from csm_engine.execution.prompt_rows import PromptRows
from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.kv.cache import SlotKVCache
from csm_engine.model.shapes import ModelConfig


class Backbone(Protocol):
    """The transformer over the conversation, with a KV cache for each slot."""

    @property
    def cache(self) -> SlotKVCache: ...


class FrameStep(Protocol):
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

    def prefill(self, prompts: Sequence[PromptRows], /) -> None:
        """Writes rows of prompts to the KV cache in one pass, and starts the slots whose prompts are complete."""

    def __call__(self, slots: Tensor, /) -> Tensor:
        """slots: (B,) int64 -> (B, K + 1) int16, K codes and an Outcome."""
