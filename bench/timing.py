"""The order in which compared arms run, waiting for a device, and types by name. It knows no arm."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def in_turns(arms: Collection[str], rounds: int) -> Iterator[str]:
    """Every name once a round, alternately in order and in reverse, so that a slowing machine slows all arms."""
    for turn in range(rounds):
        yield from arms if turn % 2 == 0 else reversed(list(arms))


def synchronize(device: torch.device) -> None:
    """Returns when the device has done all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
