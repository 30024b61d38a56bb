"""Norms, gates, embeddings, sampling and the state of slots, compiled, against their plain-torch twins."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import state_launches, torch_ops, triton_ops  # noqa: E402
from csm_engine.execution.ops.prompt import prompt_launches  # noqa: E402
from csm_engine.execution.sampling import SamplingRows  # noqa: E402
from csm_engine.execution.slot_state import SlotState  # noqa: E402
from csm_engine.model.shapes import ModelConfig, TransformerConfig  # noqa: E402
from csm_engine.scheduling.outcome import Outcome  # noqa: E402
from csm_engine.types import SamplingParams  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.twins import assert_close, random  # noqa: E402

BF16 = torch.bfloat16


def test_rms_norm_and_silu() -> None:
    x, weight, gate_up = random(3, 1024), random(1024, seed=1), random(2, 2 * 512)
    with compiled_kernels() as ran:
        ours = triton_ops.rms_norm(x, weight, 1e-5), triton_ops.silu_mul(gate_up)
    assert ran == ["rms_norm_kernel", "silu_mul_kernel"]
    assert_close(ours[0], torch_ops.rms_norm(x, weight, 1e-5), 1e-2)
    assert_close(ours[1], torch_ops.silu_mul(gate_up), 1e-2)


def test_embeddings_of_a_pass() -> None:
    ids = torch.randint(-1, 35, (5, 9), generator=torch.Generator().manual_seed(3))
    audio, text = random(4 * 35, 128), random(50, 128, seed=1)
    with compiled_kernels():
        ours = prompt_launches.embed(ids, audio, text, 35)
    assert_close(ours, torch_ops.embed(ids, audio, text, 35), 1e-2)


@pytest.mark.parametrize("dtype", [BF16, torch.float32], ids=str)
@pytest.mark.parametrize("codebook", [0, 31])
def test_sampler_draws_the_same_codes(dtype: torch.dtype, codebook: int) -> None:
    rows, vocab_size, codebook_size, width = 6, 2051, 2048, 64
    logits = (random(rows, vocab_size, dtype=torch.float32) * 3).to(dtype)
    seed, frame = torch.arange(rows) * 2**33 + 5, torch.arange(rows) * 7
    sampling = SamplingRows(torch.linspace(0, 1.5, rows), torch.tensor([1, 2, 3, 50, 500, 2048]), seed)
    table = random(32 * vocab_size, width)
    with compiled_kernels() as ran:
        codes, fed = triton_ops.sample_and_feed(
            logits, sampling, torch.arange(rows), frame, codebook, codebook_size, vocab_size, table
        )
    assert ran == ["sample_kernel"]
    expected = torch_ops.FrameDraw(sampling, frame, codebook + 1, codebook_size).sample(logits, codebook)
    assert torch.equal(codes, expected)
    assert fed is not None and torch.equal(fed, table[codebook * vocab_size + expected])


def test_a_logit_that_is_not_a_number_draws_the_id_past_the_last() -> None:
    """Nothing is read past the table, which has no row for that id."""
    logits, table, rows = random(3, 64), random(2 * 64, 64), torch.arange(3)
    logits[1, 5] = torch.nan
    sampling = SamplingRows(torch.ones(3), torch.full((3,), 50), rows)
    with compiled_kernels():
        codes, fed = triton_ops.sample_and_feed(logits, sampling, rows, rows, 1, 64, 64, table)
    assert codes[1] == 64
    assert torch.equal(codes, torch_ops.FrameDraw(sampling, rows, 2, 64).sample(logits, 1))
    assert fed is not None and torch.equal(fed, table[64 + codes.clamp(max=63)])


def test_slots_are_gathered_and_advanced_as_their_twins() -> None:
    """One at its last position, one before its last frame, one that ends its speech, one in the middle, and padding.
    One has codes past the table: a logit was not a number.
    """
    width, vocab_size, slots, pad = 64, 35, torch.tensor([2, 0, 3, 1, 4, 4]), 4
    stack = TransformerConfig(num_layers=1, dim=width, num_heads=1, num_kv_heads=1, ffn_dim=8, max_seq_len=16)
    config = ModelConfig(stack, stack, 8, vocab_size, num_codebooks=4, codebook_size=vocab_size)
    state = SlotState(config, pad, device=torch.device("cpu"), dtype=BF16)
    for slot, (position, max_frames) in enumerate([(15, 9), (3, 1), (5, 9), (7, 9)]):
        embedding, sampling = random(width, seed=slot), SamplingParams(seed=slot)
        state.start(slot, embedding, position=position, frame=0, max_frames=max_frames, sampling=sampling)
    codes = torch.randint(1, vocab_size, (6, 4), generator=torch.Generator().manual_seed(1))
    codes[0], codes[3] = 0, vocab_size
    table, twin = random(4 * vocab_size, width, seed=9), deepcopy(state)
    expected = twin.gather(slots)
    outcomes = ops.advance(twin, slots, codes, table, vocab_size)[:, -1]
    with compiled_kernels() as ran:
        gathered = state_launches.gather(state, slots)
        advanced = state_launches.advance(state, slots, codes, table, vocab_size)
    assert ran == ["gather_kernel", "advance_kernel"]
    for field in fields(expected):
        assert torch.equal(getattr(gathered, field.name), getattr(expected, field.name)), field.name
    assert torch.equal(advanced[:, -1], outcomes) and Outcome.INVALID_FRAME in outcomes.tolist()
    assert torch.equal(advanced[:, :-1], codes.to(torch.int16))
    for name in ("position", "frame", "active", "max_frames"):
        assert torch.equal(getattr(state, name)[:pad], getattr(twin, name)[:pad]), name
    assert_close(state.next_embedding[:pad], twin.next_embedding[:pad], 1e-2)
