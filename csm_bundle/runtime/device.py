"""Whether a device that was asked for is there. torch fails for one that is not with an error of its own."""

from __future__ import annotations

import torch


class DeviceError(OSError):
    """The device is not there, or torch was built without it."""


def check_device(name: str) -> None:
    """name: as torch spells it, such as "cuda:1". Raises DeviceError."""
    device = torch.device(name)
    if device.type != "cuda":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise DeviceError(f"--device is {name}, and torch {torch.__version__} finds {count} CUDA devices here.")
