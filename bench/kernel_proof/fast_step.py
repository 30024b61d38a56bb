"""The fast step at csm-1b's shapes over tensors without data, in every form, and the engine's other launches.

Weights are packed by the project's own `pack`, so a form here is the same as on a device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.kernel_proof.budget import MULTIPROCESSORS
from bench.kernel_proof.operations import storage_of
from bench.kernel_proof.pretended_gpu import META
from bench.lease.barriers.sizes import BARRIERS, BLOCK, BLOCKS, PARTS, ROUNDS
from bench.lease.forms import FORMS, new_step
from bench.shapes import CSM_1B
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import pack
from csm_engine.model.csm import build_skeleton
from csm_engine.model.shapes import ModelConfig
from csm_engine.scheduling.buckets import BUCKETS, PROMPT_TILE
from csm_engine.types import SamplingParams

PROVED_FORMS = (
    "auto", "plain", "fused", "float8", "int8", "float8-kv", "float32", "depth-kernel", "float8-depth-kernel",
    "int8-depth-kernel",
)  # fmt: skip
ALL_BATCHES = BUCKETS
PREFILL_ROWS = (0, 32, 256, 512)
PROMPT_LENGTHS = (1, 37)


def new_traced_step(form: str, num_slots: int, config: ModelConfig = CSM_1B) -> PackedFrameStep:
    """To be called inside a pretended GPU. form: one of FORMS in bfloat16, or "float32"."""
    model = build_skeleton(config).requires_grad_(False)
    if form == "float32":
        return PackedFrameStep(pack(model, rows=num_slots), num_slots)
    return new_step(FORMS[form].packed(model.to(torch.bfloat16), num_slots), form, num_slots)


def partly_read(step: PackedFrameStep, batch: int, context: int) -> dict[int, int]:
    """Bytes that one launch reads of each cache and table, by `storage_of`. A launch reads a small part of each."""
    weights, config = step.weights, step.config
    value_bytes = weights.dtype.itemsize
    rows = {
        storage_of(weights.text_embeddings): 0,  # no frame reads it
        storage_of(weights.audio_embeddings): batch * config.num_codebooks * config.backbone.dim * value_bytes,
        storage_of(weights.projected_embeddings): batch * config.depth_decoder.dim * value_bytes,
    }
    for stack in (weights.backbone, weights.depth_decoder):
        rows[storage_of(stack.rope)] = batch * stack.config.head_dim * stack.rope.element_size()
    for layer in step.backbone.cache.layers:
        for stored in (layer.keys, layer.values):
            rows[storage_of(stored)] = batch * (context + 1) * stored[0, 0].numel() * stored.element_size()
    return rows


@torch.inference_mode()
def frame(step: PackedFrameStep, batch: int) -> None:
    """The frame step as a captured graph holds it."""
    rows = step(torch.arange(batch, device=META))
    assert rows.shape == (batch, step.config.num_codebooks + 1) and rows.dtype is torch.int16


@torch.inference_mode()
def prefill(step: PackedFrameStep, table: Tensor) -> None:
    """A prefill pass as a captured graph holds it. table: of `prefill_table`."""
    step.prefill_pass(table)


def prefill_table(step: PackedFrameStep, rows: int) -> Tensor:
    """What a graph of a pass of so many rows reads."""
    return step.prompt_table([], rows, PROMPT_TILE).to(META)


def prompts(step: PackedFrameStep) -> dict[str, Callable[[], None]]:
    """Everything else that the engine runs on the device, by name."""
    config, weights = step.config, step.weights

    def start() -> None:
        embedding = torch.zeros(config.backbone.dim, dtype=weights.dtype, device=META)
        step.state.start(0, embedding, position=1, frame=0, sampling=SamplingParams())

    def logits() -> None:
        hidden = torch.zeros(2, config.backbone.dim, dtype=weights.dtype, device=META)
        step.depth_decoder.logits(hidden, torch.zeros(2, config.num_codebooks, dtype=torch.int64, device=META))

    def one_prompt(length: int) -> None:
        step.backbone.prefill(torch.zeros(length, config.backbone.dim, dtype=weights.dtype, device=META), 0, 300)

    return {
        **{f"prefill of {n}": lambda n=n: one_prompt(n) for n in PROMPT_LENGTHS},  # type: ignore[misc]
        "start": start,
        "copy": lambda: step.backbone.cache.copy(0, 1, 100),
        "logits": logits,
    }


def barrier_programs() -> None:
    """What `bench.lease.barriers` launches."""
    from bench.lease.barriers.kernels import run_barriers, run_stream  # needs triton

    counter, left = (torch.empty(size, dtype=torch.int32, device=META) for size in (1, MULTIPROCESSORS))
    data = torch.empty(PARTS, MULTIPROCESSORS, BLOCKS, BLOCK, dtype=torch.int32, device=META)
    for warps in (4, 8):
        run_barriers(counter, left, BARRIERS, warps)
    for barriers, prefetch in ((False, False), (True, False), (True, True)):
        run_stream(counter, left, data, left, ROUNDS, barriers=barriers, prefetch=prefetch)
