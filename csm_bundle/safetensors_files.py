"""Tensors of a safetensors checkpoint: one file, or shards with their index. It knows no module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from csm_bundle.errors import CheckpointError

INDEX_SUFFIX = ".index.json"


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose keys begin with the prefix, without it; other tensors are not read.

    path: a safetensors file, or the index of shards beside it. Raises CheckpointError.
    """
    files = _shards(path) if path.name.endswith(INDEX_SUFFIX) else {path: None}
    tensors: dict[str, Tensor] = {}
    for file, keys in files.items():
        if keys is None or any(key.startswith(prefix) for key in keys):
            tensors |= _read(file, prefix, keys)
    return tensors


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """`sha256:` and the hex digest of names and bytes, in order of names: for tensors that share their file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _read(path: Path, prefix: str, keys: list[str] | None) -> dict[str, Tensor]:
    """keys: those that the index puts into this file; all that it has when None."""
    try:
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
            wanted = [key for key in (found if keys is None else keys) if key.startswith(prefix)]
            for key in wanted:
                if key not in found:
                    raise CheckpointError(f"{path}: the index says that {key} is in it, but it is not.")
            return {key.removeprefix(prefix): file.get_tensor(key) for key in wanted}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _shards(index: Path) -> dict[Path, list[str] | None]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        pairs = [(str(key), str(name)) for key, name in weight_map.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: is not a safetensors index with a weight_map.") from error
    shards: dict[Path, list[str] | None] = {}
    for key, name in pairs:
        if Path(name).name != name:
            raise CheckpointError(f"{index}: names the shard {name}, which is not beside it.")
        keys = shards.setdefault(index.parent / name, [])
        assert keys is not None
        keys.append(key)
    return shards
