"""Turns of arms that are compared, and the end of what a device has been told. It knows nothing of what an arm does."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch


def in_turns(arms: Collection[str], rounds: int) -> Iterator[str]:
    """Every name once a round, forth and then back, so that a machine that slows down slows all of them."""
    for turn in range(rounds):
        yield from arms if turn % 2 == 0 else reversed(list(arms))


def synchronize(device: torch.device) -> None:
    """Returns when the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
