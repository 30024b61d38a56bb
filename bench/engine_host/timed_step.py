"""A frame step that computes nothing: it takes time, as a GPU does, and its codes are made once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from csm_engine.execution.prompt_rows import PromptRows
from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.kv.cache import SlotKVCache
from csm_engine.model.shapes import ModelConfig
from csm_engine.scheduling.outcome import Outcome

# What csm-1b's captured steps took on an H100 (docs/measured.md): 7.8 ms at one row, 9.5 ms at 64.
STEP_S, ROW_S = 7.8e-3, 2.7e-5
_CODE = 7  # the code of every frame; 0 in all codebooks would end the speech


class EmptyBackbone:
    """Keys and values that no step writes. The engine copies them, so they are of the model's shape."""

    def __init__(self, config: ModelConfig, num_slots: int) -> None:
        self.cache = SlotKVCache(config.backbone, num_slots, device=torch.device("cpu"), dtype=torch.float32)


class TimedStep:
    """A FrameStep for the engine's loop. The host is idle while it runs, as it is while a GPU computes."""

    def __init__(self, config: ModelConfig, num_slots: int) -> None:
        self.config = config
        self.device = torch.device("cpu")
        self.backbone = EmptyBackbone(config, num_slots)
        self.state = SlotState(config, num_slots, device=self.device, dtype=torch.float32)
        self.timer: StageTimer[str] = StageTimer(self.device)
        self._left = [0] * num_slots  # frames that each slot's sequence may still make
        self._rows = torch.full((num_slots, config.num_codebooks + 1), _CODE, dtype=torch.int16)

    def prefill(self, prompts: Sequence[PromptRows]) -> None:
        """Takes as long as a step of one row, which is an assumption."""
        time.sleep(STEP_S)
        for prompt in prompts:
            if (first := prompt.first_frame) is not None:
                self._left[prompt.slot] = first.max_frames - first.frame

    def __call__(self, slots: Tensor) -> Tensor:
        """slots: (B,) int64 -> (B, K + 1) int16, K codes and an Outcome."""
        time.sleep(STEP_S + ROW_S * len(slots))
        outcomes = []
        for slot in slots.tolist():
            self._left[slot] -= 1
            outcomes.append(Outcome.FRAME if self._left[slot] else Outcome.MAX_FRAMES)
        rows = self._rows[: len(slots)]
        rows[:, -1] = torch.tensor(outcomes)
        return rows
