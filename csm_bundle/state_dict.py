"""Compares a checkpoint's tensors with those that a module needs. It knows no module and no file format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from csm_bundle.errors import CheckpointError


def check_state(path: Path, needed: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str = "") -> None:
    """Raises CheckpointError that names the file and the first key that is missing, unexpected or of another shape.

    prefix: of the keys in the file.
    """
    for key in needed:
        if key not in found:
            raise CheckpointError(f"{path}: key {prefix}{key} is missing.")
    for key, tensor in found.items():
        if key not in needed:
            raise CheckpointError(f"{path}: key {prefix}{key} is unexpected.")
        if tensor.shape != needed[key].shape:
            given, wanted = tuple(tensor.shape), tuple(needed[key].shape)
            raise CheckpointError(f"{path}: {prefix}{key} has shape {given}; {wanted} is needed.")
