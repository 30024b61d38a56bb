"""The codec's captured steps at the published sizes over tensors without data: operations, bytes, multiplications.

A codec frame (80 ms of every stream) is one launch of Mimi's graph and two of the mark's, for the bucket of rows. Rows
near the start of their stream take another graph, NEAR_ROWS rows at a time, in both of the mark's steps. Resampling,
framing and the level are the host's work and not in here.

`modelled_ms` is a model and no measurement. It adds for each operation the gap and the fixed cost of its class, as
fitted to the engine's profile of an H100 (time_model.json), its bytes at that device's copy bandwidth, and all
multiplications at RATES. The rates are assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from bench.kernel_proof.operations import Operations, count_torch, storage_of
from bench.kernel_proof.time_model import COPY_BYTES_PER_US, TimeModel
from bench.timing import DTYPES
from csm_codec.mimi.batch.network import BatchNetwork
from csm_codec.mimi.loader import build_mimi
from csm_codec.watermark.embed.spectral_embedder import NEAR_ROWS, SpectralEmbedder
from csm_codec.watermark.networks.hparams import Hparams
from csm_codec.watermark.networks.silentcipher import build_silentcipher

CODEC_ROWS = (64, 256, 512, 1024)
PARTS = ("mimi", "latent", "mark", "near")
MARKS_PER_FRAME = 2  # launches of the mark's step: 3528 samples complete one or two hops of 2048
RATES = {"float32": 30e12, "bfloat16": 150e12}  # floating-point operations a second; an H100's peaks are 67 and 989
PUBLISHED = Hparams(sample_rate_hz=44100, n_fft=4096, hop=2048, band=1024, enc_layers=3, dec_layers=4, sdr_db=36.0)
META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class CodecStep:
    """One part for one bucket. flops: a multiplication and an addition are two."""

    operations: Operations
    flops: int

    def modelled_ms(self, model: TimeModel, form: str) -> float:
        counts = self.operations.counts
        launches = sum(number * (model.gap + model.costs[name].fixed) for name, number in counts.items())
        return (launches + self.operations.total_bytes / COPY_BYTES_PER_US + 1e6 * self.flops / RATES[form]) / 1000


class TracedCodec:
    """Mimi and the mark, without data."""

    def __init__(self, form: str, rows: int) -> None:
        """form: one of DTYPES, for Mimi and for the mark's convolutions."""
        model = _mimi()
        self._rows = rows
        self.network = BatchNetwork(model, DTYPES[form])
        with META:
            silentcipher = build_silentcipher(PUBLISHED)
        for module in (silentcipher.carrier_encoder, silentcipher.carrier_decoder):
            module.eval().requires_grad_(False)
        self.embedder = SpectralEmbedder(silentcipher, rows, DTYPES[form])

    def part(self, name: str) -> Callable[[], None]:
        """What the graph of that part holds, with its inputs in place. name: one of PARTS"""
        rows, network = self._rows, self.network
        match name:
            case "mark":
                return partial(self._mark, rows)
            case "near":
                return self.embedder._look_nearer
        table, state, pcm = network.new_table(rows), network.new_state(rows), network.new_pcm(rows)
        return partial(network.step, table, state, pcm if name == "mimi" else None)

    def traced(self, name: str) -> CodecStep:
        function = self.part(name)
        books = self.network._books
        read = {storage_of(books): self._rows * self.network.num_codebooks * books.shape[1] * books.element_size()}
        with torch.inference_mode(), _OneKernelOfAttention():
            operations = count_torch(function, read)
            with FlopCounterMode(display=False) as counter:
                function()
        return CodecStep(operations, counter.get_total_flops())

    def _mark(self, rows: int) -> None:
        self.embedder._make_messages(rows)
        self.embedder._make_blocks(rows)


class _OneKernelOfAttention(TorchFunctionMode):
    """The backend that a GPU is told to use, which tensors without data do not pick by themselves."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            query, keys, values, mask = args
            bias = mask.expand(-1, query.shape[1], -1, -1)
            return torch.ops.aten._scaled_dot_product_efficient_attention(query, keys, values, bias, False)[0]
        return func(*args, **(kwargs or {}))


def tick_ms(steps: dict[str, CodecStep], model: TimeModel, form: str, near_rows: int = 0) -> float:
    """Modelled, of a codec frame. steps: by part. near_rows: that are near the start of their stream."""
    near = -(-near_rows // NEAR_ROWS) * steps["near"].modelled_ms(model, form)
    return steps["mimi"].modelled_ms(model, form) + MARKS_PER_FRAME * (steps["mark"].modelled_ms(model, form) + near)


@cache
def _mimi() -> Any:
    return build_mimi(None, Path()).to(META).requires_grad_(False)
