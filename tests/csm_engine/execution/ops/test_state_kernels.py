"""The kernels between the slots' state and the rows of a frame against `SlotState`, in Triton's interpreter."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.ops import dispatch as ops  # noqa: E402
from csm_engine.execution.ops import state_launches
from csm_engine.execution.slot_state import SlotState
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.scheduling.outcome import Outcome
from csm_engine.types import SamplingParams

SLOTS, WIDTH, CODEBOOKS, VOCAB, CODEBOOK_SIZE = 7, 100, 5, 19, 17
STACK = TransformerConfig(num_layers=1, dim=WIDTH, num_heads=1, num_kv_heads=1, ffn_dim=8, max_seq_len=50)
CONFIG = ModelConfig(STACK, STACK, 8, VOCAB, CODEBOOKS, CODEBOOK_SIZE)
PAD = SLOTS
OF_SLOTS = ("next_embedding", "position", "frame", "active", "max_frames")
OF_SAMPLING = ("seed", "temperature", "top_k")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def state(request: pytest.FixtureRequest) -> SlotState:
    """Slot 0 is free, 1 is at its last position, 2 before its last frame, the others in the middle."""
    state = SlotState(CONFIG, SLOTS, device=torch.device("cpu"), dtype=request.param)
    for slot in range(1, SLOTS):
        sampling = SamplingParams(seed=2**40 + slot, temperature=0.1 * slot, top_k=slot)
        position, frame = (49, 3) if slot == 1 else (10 * slot // 2, 7 * slot)
        embedding = torch.randn(WIDTH, generator=torch.Generator().manual_seed(slot)).to(request.param)
        state.start(
            slot, embedding, position=position, frame=frame, sampling=sampling, max_frames=15 if slot == 2 else 1000
        )
    return state


@pytest.mark.parametrize("slots", [[4], [6, 0, 2, PAD, PAD, 1, 3]])
def test_gather_reads_the_state_of_the_slots(state: SlotState, slots: list[int]) -> None:
    index = torch.tensor(slots)
    ours, expected = state_launches.gather(state, index), state.gather(index)
    for field in fields(expected):
        assert torch.equal(getattr(ours, field.name), getattr(expected, field.name)), field.name


@pytest.mark.parametrize("slots", [[4], [6, 0, 2, PAD, PAD, 1, 3]])
def test_every_outcome_and_the_remaining_slot_state(state: SlotState, slots: list[int]) -> None:
    live = state.live(torch.tensor(slots))
    codes = torch.randint(0, CODEBOOK_SIZE, (len(slots), CODEBOOKS), generator=torch.Generator().manual_seed(1))
    codes[:, 0] = 3
    if len(slots) > 1:
        codes[slots.index(6)] = 0  # end of speech
        codes[slots.index(3), 2] = CODEBOOK_SIZE  # of a logit that is not a number
    table = torch.randn(CODEBOOKS * VOCAB, WIDTH).to(state.next_embedding.dtype)
    twin = deepcopy(state)
    rows = state_launches.advance(state, live, codes, table, VOCAB)
    assert torch.equal(rows[:, -1], ops.advance(twin, live, codes, table, VOCAB)[:, -1])
    assert torch.equal(rows[:, :-1], codes.to(torch.int16))
    assert (len(slots) > 1) == (Outcome.INVALID_FRAME in rows[:, -1].tolist())
    for name in OF_SAMPLING:
        assert torch.equal(getattr(state.sampling, name), getattr(twin.sampling, name)), name
    for name in OF_SLOTS:
        ours, expected = getattr(state, name)[:SLOTS], getattr(twin, name)[:SLOTS]
        assert torch.allclose(ours.float(), expected.float(), rtol=1e-2, atol=1e-2), name
        if name != "next_embedding":
            assert torch.equal(ours, expected), name
    assert not state.active[PAD] and state.position[PAD] == 0
