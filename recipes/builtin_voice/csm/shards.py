"""The CSM's weights as float16 in several files, for a training machine that can return only small files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from csm_engine.model.csm import CSM

MOST_BYTES = 14 * 2**20  # of a file


def write_shards(folder: Path, model: CSM) -> None:
    """Writes csm-1.safetensors and so on, with the model's own parameter names."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, parameter in model.named_parameters():
        tensor = parameter.detach().to("cpu", torch.float16).contiguous()
        if shards[-1] and size + tensor.nbytes > MOST_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    for number, shard in enumerate(shards, start=1):
        draft = folder / f"csm-{number}.new"
        save_file(shard, draft)
        draft.rename(folder / f"csm-{number}.safetensors")


def read_shards(folder: Path, model: CSM) -> None:
    """Loads the files into the model. Raises RuntimeError if a weight is missing or unexpected."""
    state: dict[str, Tensor] = {}
    for path in sorted(folder.glob("csm-*.safetensors")):
        state |= load_file(path)
    model.load_state_dict(state, strict=True)
