"""A device that is not there is an error in a sentence."""

from __future__ import annotations

import pytest
import torch

from csm_bundle.runtime.device import DeviceError, check_device


def test_a_missing_device_is_named_with_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for present in ("cpu", "cuda", "cuda:0"):
        check_device(present)
    with pytest.raises(DeviceError, match=r"--device is cuda:1, and torch \S+ finds 1 CUDA devices here"):
        check_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device is cuda, and torch .* finds 0"):
        check_device("cuda")
