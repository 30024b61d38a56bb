"""Weights of a matrix product in panels of 32 outputs, for the kernel of panel_product.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LANES = 8  # float32 of a vector; processors with shorter ones take several
PANEL = 4 * LANES  # outputs


def panels_of(outputs: int) -> int:
    return -(-outputs // PANEL)


def in_panels(weight: Tensor) -> Tensor:
    """(N, K), outputs and inputs -> (panels, K, 32). The last panel is filled up with outputs that are zero."""
    outputs, inputs = weight.shape
    filled = weight.new_zeros(panels_of(outputs) * PANEL, inputs)
    filled[:outputs] = weight
    return filled.view(-1, PANEL, inputs).transpose(1, 2).contiguous()
