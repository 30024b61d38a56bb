"""The forms of the fast step that are measured and proved, with seeded random weights that are made on the device."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch

from bench.lease.options import Given
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.matrix import FLOAT8, Quantization
from csm_engine.execution.weights import FusedProducts, PackedWeights, pack
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model


@dataclass(frozen=True, slots=True)
class Form:
    """One configuration of the fast step.

    quantization: of the layers' matrices. float8_kv: whether keys and values are in float8. fused: which products our
    own kernels compute: none, as is the default of `pack`, all, or where they are faster. depth_kernel: for few rows,
    one launch for all codebooks after the first; it has not run on a GPU. compiled: whether a small model's frame on a
    CPU is compiled.
    """

    quantization: Quantization = "none"
    fused: FusedProducts = False
    float8_kv: bool = False
    depth_kernel: bool = False
    compiled: bool = True

    @property
    def kv_dtype(self) -> torch.dtype | None:
        """Of keys and values; None is that of the weights."""
        return FLOAT8 if self.float8_kv else None

    def packed(self, model: CSM, rows: int) -> PackedWeights:
        """rows: the largest batch of a step."""
        return pack(
            model,
            quantization=self.quantization,
            fused=self.fused,
            rows=rows,
            depth_kernel=self.depth_kernel,
            compiled=self.compiled,
        )


FORMS = {
    "auto": Form(fused="where_faster"),
    "plain": Form(),
    "torch": Form(compiled=False),
    "fused": Form(fused=True),
    "float8": Form(quantization="float8"),
    "int8": Form(quantization="int8"),
    "float8-kv": Form(float8_kv=True),
    "depth-kernel": Form(depth_kernel=True),
    "fused-float8-kv": Form(fused=True, float8_kv=True),
    "float8-float8-kv": Form(quantization="float8", float8_kv=True),
    "float8-depth-kernel": Form(quantization="float8", float8_kv=True, depth_kernel=True),
    "int8-depth-kernel": Form(quantization="int8", float8_kv=True, depth_kernel=True),
}

_KEPT_BYTES = 8 * 2**30


def form_names(text: str) -> list[str]:
    """The forms of a list such as "plain,fused". Raises: ValueError naming the unknown form and the known ones."""
    names = text.split(",")
    for name in names:
        if name not in FORMS:
            raise ValueError(f"form {name!r} is unknown; allowed are {', '.join(FORMS)}")
    return names


def new_weights(given: Given, form: str, rows: int) -> PackedWeights:
    """Packed random weights. rows: the largest batch of a step."""
    device = given.device
    release_memory(device)
    return FORMS[form].packed(
        random_model(given.model, seed=0, device=device, dtype=given.dtype, drawn_on=device), rows
    )


def new_step(weights: PackedWeights, form: str, num_slots: int) -> PackedFrameStep:
    return PackedFrameStep(weights, num_slots, kv_dtype=FORMS[form].kv_dtype)


def slots_that_fit(given: Given, form: str) -> int:
    """How many slots fit into free memory beside 8 GiB for steps. No limit on a CPU."""
    if not given.on_gpu:
        return 2**31
    release_memory(given.device)
    stack = given.model.backbone
    value_bytes = (FORMS[form].kv_dtype or given.dtype).itemsize
    slot_bytes = 2 * stack.num_layers * stack.max_seq_len * stack.num_kv_heads * stack.head_dim * value_bytes
    free_bytes, _ = torch.cuda.mem_get_info(given.device)
    return int((free_bytes - _KEPT_BYTES) // slot_bytes) - 1  # one slot is for padding


def fill_cache(step: PackedFrameStep) -> None:
    """Fills every slot's keys and values with random numbers. For timing they equal a prompt, and need no prefill."""
    for layer in step.backbone.cache.layers:
        for stored in (layer.keys, layer.values):
            one = torch.randn(stored.shape[1:], device=stored.device).to(stored.dtype)
            stored.copy_(one.expand_as(stored))


def release_memory(device: torch.device) -> None:
    """Frees unused memory for the next form."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
