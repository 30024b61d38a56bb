"""Milliseconds of a prefill pass, and admissions per second: a model. No pass has been measured on a GPU.

Assumptions:
* A launch costs what the fitted model of a frame says at batch 1: the gap, its class's fixed time, its bytes. A class
  that was not in the profile takes the median of the others.
* All products together take at least their multiplications at `PRODUCT_FLOPS`, a guess of 60 % of an H100's peak.
* Attention reads each tile's keys and values once for every 16 rows, at the copy bandwidth.
* An engine that admits all the time alternates frame steps and passes. Its host needs `HOST_MS` beside them in each
  cycle: the measured cycle of 11.8 ms at 512 streams, less the measured frame of 8.1 ms at batch 64. That cycle held
  one admission as it was before passes, so the figure is on the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.kernel_proof.operations import PRODUCT, Operations
from bench.kernel_proof.time_model import COPY_BYTES_PER_US, TimeModel
from csm_engine.model.shapes import TransformerConfig
from csm_engine.scheduling.buckets import MAX_PREFILL_PROMPTS, PROMPT_TILE, in_tiles

PRODUCT_FLOPS = 6e14
HOST_MS = 11.8 - 8.1


@dataclass(frozen=True, slots=True)
class PassModel:
    """A model of the times of prefill passes of one backbone."""

    times: TimeModel
    backbone: TransformerConfig
    kv_bytes: int  # of one element of the cache

    def pass_ms(self, operations: Operations, rows: int, context: int) -> float:
        """operations: counted; rows: of the pass; context: positions that each row attends to, its own included."""
        total_us = 1000 * self.times.frame_ms(operations, 1)
        flops = 2 * rows * self._products()
        read_us = operations.bytes[PRODUCT] / COPY_BYTES_PER_US
        total_us += max(0.0, flops / PRODUCT_FLOPS * 1e6 - read_us)
        tiles, stack = in_tiles(rows) // PROMPT_TILE, self.backbone
        kept = 2 * (stack.num_layers - 1) * context * stack.num_kv_heads * stack.head_dim * self.kv_bytes
        return (total_us + tiles * kept / COPY_BYTES_PER_US) / 1000

    def _products(self) -> int:
        """Weights that a pass multiplies a row with: all layers, but of the last one only queries, keys and values."""
        stack = self.backbone
        qkv = (stack.num_heads + 2 * stack.num_kv_heads) * stack.head_dim * stack.dim
        rest = stack.num_heads * stack.head_dim * stack.dim + 3 * stack.dim * stack.ffn_dim
        return stack.num_layers * qkv + (stack.num_layers - 1) * rest


def admissions_per_second(pass_ms: float, frame_ms: float, pass_rows: int, prompt_rows: int) -> float:
    """Of an engine that alternates full passes with frame steps. prompt_rows: that are not reused, of each prompt."""
    prompts = min(MAX_PREFILL_PROMPTS, pass_rows // in_tiles(prompt_rows))
    return prompts * 1000 / (frame_ms + pass_ms + HOST_MS)
