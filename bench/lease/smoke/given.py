"""The input of every check."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from csm_engine.model.shapes import ModelConfig


@dataclass(frozen=True, slots=True)
class Given:
    model: ModelConfig
    device: torch.device
    dtype: torch.dtype

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"
