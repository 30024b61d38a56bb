"""Reads a CSM checkpoint into a model: original or transformers layout, one file or shards, strictly.

Every parameter must be present, with the right shape, and no other key may be; the error names the first key at fault.
Only `random_model` makes random weights, and no loader calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from csm_bundle.errors import CheckpointError
from csm_bundle.safetensors_files import INDEX_SUFFIX, TensorFiles
from csm_engine.model.checkpoint_keys import (
    CODEC_PREFIX,
    TIED_AUDIO_EMBEDDINGS,
    KeyMap,
    is_transformers_layout,
    original_keys,
    transformers_keys,
)
from csm_engine.model.csm import CSM, build_skeleton
from csm_engine.model.shapes import ModelConfig

# In order of preference. sesame/csm-1b carries the second and the third side by side.
WEIGHT_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "transformers.safetensors.index.json",
    "ckpt.pt",
)


def load_model(path: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> CSM:
    """Loads the checkpoint in a folder, or a weight file whose config.json lies beside it.

    Raises: CheckpointError naming the file and the first key that is missing, unexpected, of a wrong shape or type, or
    that holds NaN or infinity.
    """
    weights = _weight_file(path) if path.is_dir() else path
    config = ModelConfig.from_json(weights.parent / "config.json")
    tensors = _open_tensors(weights)
    keys = list(tensors)
    if is_transformers_layout(keys):
        maps, ignored = transformers_keys(config), _ignored_transformers_keys(keys)
    else:
        maps, ignored = original_keys(config), set()
    _check_keys(weights, maps, set(keys) - ignored)
    model = build_skeleton(config)
    state = {}
    for entry, parameter in _paired(maps, model):
        tensor = tensors[entry.theirs]
        if tensor.shape != parameter.shape:
            raise CheckpointError(
                f"{weights}: {entry.theirs} is {tuple(tensor.shape)}; the config asks for {tuple(parameter.shape)}"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(f"{weights}: {entry.theirs} is of {tensor.dtype}; weights must be floating point")
        tensor = unpermute_rotary(tensor, entry.heads) if entry.heads else tensor
        state[entry.ours] = tensor.to(device=device, dtype=dtype)
        if not torch.stack(torch.aminmax(state[entry.ours])).isfinite().all():
            raise CheckpointError(f"{weights}: {entry.theirs} holds values that are no finite numbers as {dtype}")
    return _finish(model, state)


def random_model(
    config: ModelConfig,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    drawn_on: str | torch.device = "cpu",
) -> CSM:
    """A model of the given shapes with seeded random weights: noise, for tests and benchmarks only.

    drawn_on: device that draws the numbers. A GPU draws other numbers than a CPU, and much faster.
    """
    generator = torch.Generator(drawn_on).manual_seed(seed)
    model = build_skeleton(config)
    state = {}
    for name, parameter in model.named_parameters():
        if name.endswith("scale"):
            value = 1 + 0.1 * torch.randn(parameter.shape, generator=generator, device=generator.device)
        else:
            fan_in = parameter.shape[1] if parameter.dim() > 1 else 1
            std = 1.0 if "embeddings" in name else fan_in**-0.5
            value = std * torch.randn(parameter.shape, generator=generator, device=generator.device)
        state[name] = value.to(device=device, dtype=dtype)
    return _finish(model, state)


def unpermute_rotary(weight: Tensor, heads: int) -> Tensor:
    """(heads * head_dim, dim), rows of a head ordered by half-splits -> ordered by neighbouring pairs."""
    rows, dim = weight.shape
    return weight.view(heads, 2, rows // heads // 2, dim).transpose(1, 2).reshape(rows, dim)


def _finish(model: CSM, state: dict[str, Tensor]) -> CSM:
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _paired(maps: Iterable[KeyMap], model: CSM) -> Iterable[tuple[KeyMap, Tensor]]:
    parameters = dict(model.named_parameters())
    return ((entry, parameters[entry.ours]) for entry in maps)


def _weight_file(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: holds no weights; one of {', '.join(WEIGHT_FILES)} is needed")


def _ignored_transformers_keys(keys: list[str]) -> set[str]:
    return {key for key in keys if key.startswith(CODEC_PREFIX) or key == TIED_AUDIO_EMBEDDINGS}


def _check_keys(path: Path, maps: list[KeyMap], found: set[str]) -> None:
    wanted = {entry.theirs for entry in maps}
    for problem, keys in (("is missing", wanted - found), ("is unexpected", found - wanted)):
        if keys:
            first = min(keys)
            more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
            raise CheckpointError(f"{path}: key {first} {problem}{more}")


def _open_tensors(path: Path) -> Mapping[str, Tensor]:
    """Named tensors of a weight file, read one at a time."""
    if path.name.endswith(INDEX_SUFFIX) or path.suffix == ".safetensors":
        return TensorFiles(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load raises many kinds; all mean that the file is no checkpoint
        raise CheckpointError(f"{path}: cannot be read as a torch checkpoint: {error}") from None
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(_is_named_tensor(*entry) for entry in state.items()):
        raise CheckpointError(f"{path}: is not a dictionary of tensors")
    return state


def _is_named_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided
