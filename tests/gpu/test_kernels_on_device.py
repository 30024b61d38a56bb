"""Kernels round products and attention on the device against their plain-torch twins on the CPU, at csm-1b's widths."""

from __future__ import annotations

from itertools import product as combinations

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch")

from csm_engine.execution.ops import torch_ops, triton_ops  # noqa: E402
from csm_engine.execution.ops.prompt import prompt_launches  # noqa: E402
from csm_engine.execution.sampling import SamplingRows  # noqa: E402
from tests.gpu.device import ON_GPU, put  # noqa: E402
from tests.support.kernels.twins import assert_close, random  # noqa: E402

BF16 = torch.bfloat16
PASS_ROWS = 300 if ON_GPU else 3  # the interpreter takes minutes for 300


@pytest.mark.parametrize("width", [1024, 2048])
def test_rms_norm(width: int) -> None:
    x, weight = random(64, width), random(width, seed=1)
    assert_close(triton_ops.rms_norm(put(x), put(weight), 1e-5), torch_ops.rms_norm(x, weight, 1e-5))


def test_silu_mul() -> None:
    gate_up = random(64, 2 * 8192)
    assert_close(triton_ops.silu_mul(put(gate_up)), torch_ops.silu_mul(gate_up))


def test_embeddings_of_a_pass() -> None:
    ids = torch.randint(-1, 2051, (33, PASS_ROWS), generator=torch.Generator().manual_seed(3))
    audio, text = random(32 * 2051, 2048), random(4000, 2048, seed=1)
    ours = prompt_launches.embed(put(ids), put(audio), put(text), 2051)
    assert_close(ours, torch_ops.embed(ids, audio, text, 2051))


@pytest.mark.parametrize(("dtype", "codebook"), list(combinations([torch.float32, BF16], [0, 31])))
def test_sampler_draws_the_same_codes(dtype: torch.dtype, codebook: int) -> None:
    rows, vocab_size, codebook_size, width = 64, 2051, 2048, 1024
    logits = (random(rows, vocab_size, dtype=torch.float32) * 3).to(dtype)
    logits[[3, 60], [5, 2047]] = torch.nan  # draws the id past the last
    seed, frame = torch.arange(rows) * 2**33 + 5, torch.arange(rows) * 7
    temperature = torch.linspace(0, 1.5, rows)
    top_k = torch.arange(rows) + 1
    table = random(32 * vocab_size, width)
    sampling = SamplingRows(temperature, top_k, seed)
    on_device = SamplingRows(put(temperature), put(top_k), put(seed))
    codes, fed = triton_ops.sample_and_feed(
        put(logits), on_device, put(torch.arange(rows)), put(frame), codebook, codebook_size, vocab_size, put(table)
    )  # fmt: skip
    twin = torch_ops.FrameDraw(sampling, frame, codebook + 1, codebook_size)
    expected = twin.sample(logits, codebook)
    assert torch.equal(codes.cpu(), expected)
    assert fed is not None and torch.equal(fed.cpu(), table[codebook * vocab_size + expected])
