"""A prefill pass over many prompts: each gets what it gets alone, and what the reference gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.prompt_rows import FirstFrame, PassTable, PromptRows, table_of
from csm_engine.execution.weights import pack
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig
from csm_engine.reference.frame_step import ReferenceFrameStep
from csm_engine.scheduling.buckets import MAX_PREFILL_PROMPTS, bucket_of, prefill_buckets_up_to
from csm_engine.types import SamplingParams

SLOTS = 6
LENGTHS = {4: 37, 0: 9, 2: 1, 5: 60, 1: 24}  # slot -> rows of its prompt
Step = ReferenceFrameStep | PackedFrameStep | GraphRunner


@pytest.fixture(scope="module")
def model(tiny_config: ModelConfig) -> CSM:
    return random_model(tiny_config, seed=4)


def rows_of(config: ModelConfig, slot: int) -> np.ndarray:
    """(T, K + 1) a prompt: text, then codes, then text, with what is masked as -1."""
    numbers = np.random.default_rng(slot)
    rows = np.full((LENGTHS[slot], config.num_codebooks + 1), -1, dtype=np.int32)
    rows[:, -1] = numbers.integers(0, 200, len(rows))
    spoken = slice(len(rows) // 3, len(rows) // 2)
    rows[spoken, -1] = -1
    rows[spoken, :-1] = numbers.integers(0, config.codebook_size, rows[spoken, :-1].shape)
    return rows


def sampling_of(slot: int) -> SamplingParams:
    return SamplingParams(temperature=0.3 * slot, top_k=5 + 9 * slot, seed=2**62 + slot)


def chunk(config: ModelConfig, slot: int, start: int = 0, end: int | None = None) -> PromptRows:
    """Rows start..end of the slot's prompt, and its start where they are the last."""
    rows = rows_of(config, slot)
    last = len(rows) - 1
    end = last if end is None else end
    first = FirstFrame(rows[-1], last, 0, sampling_of(slot), max_frames=40 + slot) if end == last else None
    return PromptRows(slot, start, rows[start:end], first)


@torch.inference_mode()
def frames_of(step: Step, passes: Sequence[Sequence[PromptRows]], num_frames: int = 12) -> np.ndarray:
    """(frames, slots, K + 1) of every slot that has a prompt."""
    for prompts in passes:
        step.prefill(prompts)
    return np.stack([step(torch.tensor(list(LENGTHS))).numpy() for _ in range(num_frames)])


@pytest.fixture(scope="module")
def expected(model: CSM) -> np.ndarray:
    """The reference's, each prompt prefilled whole."""
    return frames_of(ReferenceFrameStep(model, SLOTS), [[chunk(model.config, slot)] for slot in LENGTHS])


def test_prompts_prefilled_together_equal_each_alone(model: CSM, expected: np.ndarray) -> None:
    together = [[chunk(model.config, slot) for slot in LENGTHS]]
    alone = [[chunk(model.config, slot)] for slot in LENGTHS]
    for passes in (together, alone):
        np.testing.assert_array_equal(frames_of(PackedFrameStep(pack(model), SLOTS), passes), expected)


def test_chunks_of_many_prompts_in_any_passes_give_the_same_codes(model: CSM, expected: np.ndarray) -> None:
    config = model.config
    passes = [
        [chunk(config, 5, 0, 20), chunk(config, 4, 0, 7)],
        [chunk(config, 0), chunk(config, 5, 20, 21), chunk(config, 2), chunk(config, 4, 7, 30)],
        [chunk(config, 4, 30), chunk(config, 1)],
        [chunk(config, 5, 21)],
    ]
    np.testing.assert_array_equal(frames_of(PackedFrameStep(pack(model), SLOTS), passes), expected)


@torch.inference_mode()
def test_constant_shape_makes_prefilled_rows_bit_equal_whatever_is_beside_them(tiny_config: ModelConfig) -> None:
    """In float32, where products of other shapes round otherwise: keys and values of one slot, after each pass."""
    wide = random_model(replace(tiny_config, backbone=replace(tiny_config.backbone, dim=256, ffn_dim=512)), seed=6)
    left = []
    for slots in ([4], [5, 4, 1], list(LENGTHS)):
        runner = GraphRunner(PackedFrameStep(pack(wide), SLOTS), SLOTS, prefill_rows=160, constant_shape=True)
        runner.prefill([chunk(wide.config, slot) for slot in slots])
        left.append(
            [
                kept[4, : LENGTHS[4]].clone()
                for layer in runner.backbone.cache.layers
                for kept in (layer.keys, layer.values)
            ]
        )
    for other in left[1:]:
        for one, same in zip(left[0], other, strict=True):
            assert torch.equal(one, same)


@torch.inference_mode()
def test_a_pass_starts_its_slots_as_single_starts_do(model: CSM) -> None:
    together, one_by_one = PackedFrameStep(pack(model), SLOTS), ReferenceFrameStep(model, SLOTS)
    for step in (together, one_by_one):
        step.prefill([chunk(model.config, slot) for slot in LENGTHS])
    for name in ("position", "frame", "max_frames", "active"):
        assert torch.equal(getattr(together.state, name), getattr(one_by_one.state, name)), name
    for name in ("seed", "temperature", "top_k"):
        ours, theirs = (getattr(step.state.sampling, name) for step in (together, one_by_one))
        assert torch.equal(ours[:-1], theirs[:-1]), name
    assert torch.allclose(together.state.next_embedding, one_by_one.state.next_embedding)
    assert not together.state.active[-1]


@torch.inference_mode()
def test_a_pass_leaves_other_slots_alone(model: CSM) -> None:
    step = PackedFrameStep(pack(model), SLOTS)
    step.prefill([chunk(model.config, slot) for slot in (0, 4)])
    keys, positions = step.backbone.cache.layers[1].keys[:SLOTS].clone(), step.state.position.clone()
    step.prefill([chunk(model.config, 5, 0, 20)])
    assert torch.equal(step.backbone.cache.layers[1].keys[:5], keys[:5])
    assert torch.equal(step.state.position, positions), "its prompt is not complete"


def test_a_table_keeps_every_number_and_pads_with_the_spare_slot() -> None:
    first = FirstFrame(np.array([-1, 7]), 12, 3, SamplingParams(temperature=0.7, top_k=9, seed=2**63 - 1), 2**62)
    prompts = [PromptRows(2, 5, np.array([[1, -1], [-1, 6], [3, -1]])), PromptRows(1, 12, np.zeros((0, 2), int), first)]
    table = PassTable.of(table_of(prompts, 8, num_codebooks=1, pad_slot=4, tile=4))
    assert table.slots.tolist() == [2, 2, 2, 4, 4, 4, 4, 4]
    assert table.positions.tolist() == [5, 6, 7, 0, 0, 0, 0, 0]
    assert table.ids[:, :4].tolist() == [[1, -1, 3, -1], [-1, 6, -1, -1]] and table.ids[:, 8].tolist() == [-1, 7]
    assert table.started.tolist() == [1] + [4] * (MAX_PREFILL_PROMPTS - 1)
    assert (int(table.first_positions[0]), int(table.first_frames[0]), int(table.max_frames[0])) == (12, 3, 2**62)
    assert table.sampling.seed[0] == 2**63 - 1 and table.sampling.top_k.tolist()[:2] == [9, 1]
    assert torch.equal(table.sampling.temperature[:2], torch.tensor([0.7, 0.0]))


@pytest.mark.parametrize(("prompts", "rows"), [(MAX_PREFILL_PROMPTS + 1, 0), (3, 5)])
def test_a_pass_that_holds_too_much_is_refused(prompts: int, rows: int) -> None:
    given = [PromptRows(slot, 0, np.zeros((rows, 3), int)) for slot in range(prompts)]
    with pytest.raises(
        ValueError, match=f"{prompts} prompts of {prompts * 16 * (rows > 0)} rows; at most 16 of 32 fit"
    ):
        table_of(given, 32, num_codebooks=2, pad_slot=99, tile=16)


@pytest.mark.parametrize(
    ("rows", "buckets"),
    [(1, [0, 16]), (33, [0, 32, 48]), (256, [0, 32, 64, 128, 256]), (300, [0, 32, 64, 128, 256, 304])],
)
def test_prefill_buckets_cover_every_pass(rows: int, buckets: list[int]) -> None:
    assert prefill_buckets_up_to(rows) == buckets
    assert bucket_of(0, buckets) == 0 and bucket_of(1, buckets) == buckets[1]
