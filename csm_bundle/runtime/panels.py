"""Weights of a matrix product in panels of 32 outputs, for the kernel of panel_product.py."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

LANES = 8  # float32 of a vector; processors with shorter ones take several
PANEL = 4 * LANES  # outputs


def panels_of(outputs: int) -> int:
    return -(-outputs // PANEL)


def in_panels(weight: Tensor) -> Tensor:
    """(N, K), outputs and inputs -> (panels, K, 32). The last panel is filled up with outputs that are zero."""
    outputs, inputs = weight.shape
    filled = functional.pad(weight, (0, 0, 0, panels_of(outputs) * PANEL - outputs))
    return filled.view(-1, PANEL, inputs).transpose(1, 2).contiguous()
