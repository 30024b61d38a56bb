"""The CSM's weights alone, as float16 in several files, for a machine that can return small files only."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from csm_engine.model.csm import CSM

MOST_BYTES = 14 * 2**20  # of a file


def write_shards(folder: Path, model: CSM) -> None:
    """csm-1.safetensors and so on, with the model's own names."""
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
    """Fills the model. Raises RuntimeError if a weight is missing or none of the model's."""
    state: dict[str, Tensor] = {}
    for path in sorted(folder.glob("csm-*.safetensors")):
        state |= load_file(path)
    model.load_state_dict(state, strict=True)
