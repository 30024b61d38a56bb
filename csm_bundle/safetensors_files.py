"""Tensors of a safetensors checkpoint: one file, or shards with their index. It knows no module."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from csm_bundle.errors import CheckpointError

INDEX_SUFFIX = ".index.json"


class _Index(BaseModel):
    weight_map: dict[str, str]  # the shard, by key


class TensorFiles(Mapping[str, Tensor]):
    """Tensors by key. Files are opened and tensors read when first used. Reading raises CheckpointError."""

    def __init__(self, path: Path) -> None:
        """path: a safetensors file, or the index of shards beside it. Raises CheckpointError."""
        self._files: dict[Path, tuple[Any, frozenset[str]]] = {}
        self._index = path if path.name.endswith(INDEX_SUFFIX) else None
        self._shards = _shards(path) if self._index else dict.fromkeys(self._open(path)[1], path)

    def __getitem__(self, key: str) -> Tensor:
        path = self._shards[key]
        file, found = self._open(path)
        if key not in found:
            raise CheckpointError(f"{path}: the index says that {key} is in it, but it is not.")
        try:
            return file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {key} cannot be read as safetensors: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def _open(self, path: Path) -> tuple[Any, frozenset[str]]:
        """The file and its keys."""
        if path not in self._files:
            try:
                file = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                where = f"{self._index}: names the shard {path.name}" if self._index else str(path)
                raise CheckpointError(f"{where}: cannot be read as safetensors: {error}") from error
            self._files[path] = file, frozenset(file.keys())
        return self._files[path]


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose keys begin with the prefix, under keys without it. Other tensors are not read.

    path: a safetensors file, or the index of shards beside it. Raises CheckpointError.
    """
    tensors = TensorFiles(path)
    return {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}


def weights_digest(path: Path) -> str:
    """`sha256:` and the hex digest of a weights file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """`sha256:` and the hex digest of names and bytes, sorted by name; for tensors that share a file with others."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _shards(index: Path) -> dict[str, Path]:
    """The shard of every key."""
    try:
        weight_map = _Index.model_validate_json(index.read_bytes()).weight_map
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{index}: is not a safetensors index with a weight_map.") from error
    for name in weight_map.values():
        if Path(name).name != name:
            raise CheckpointError(f"{index}: names the shard {name}, which is not beside it.")
    return {key: index.parent / name for key, name in weight_map.items()}
