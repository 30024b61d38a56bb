"""On a CPU's compiled kernels, a sequence has the same bits however its rows were computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from csm_bundle.runtime.wide_vectors import narrow_vectors
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.prompt_rows import FirstFrame, PromptRows
from csm_engine.execution.weights import PackedWeights, pack
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig
from csm_engine.types import SamplingParams

# As the built-in voice, but smaller. Values are added in several parts, up to the window's end, which is no multiple of
# eight.
SHAPE = ModelConfig(
    backbone=TransformerConfig(num_layers=3, dim=120, num_heads=3, num_kv_heads=1, ffn_dim=150, max_seq_len=203),
    depth_decoder=TransformerConfig(num_layers=2, dim=48, num_heads=6, num_kv_heads=2, ffn_dim=100, max_seq_len=64),
    text_vocab_size=96,
    audio_vocab_size=131,
    num_codebooks=20,
    codebook_size=128,
)
SLOTS = 9
FRAMES = 30
SAMPLING = SamplingParams(temperature=0.9, top_k=40, seed=7)


@pytest.fixture(scope="module")
def weights() -> PackedWeights:
    return pack(random_model(SHAPE, seed=3))


def prompt_rows(slot: int) -> np.ndarray:
    """(T, K + 1): text, then codes, with what is masked as -1."""
    draws, length = np.random.default_rng(slot), [173, 1, 8, 66, 33, 64, 65, 7, 31][slot]
    rows = np.full((length, SHAPE.num_codebooks + 1), -1, np.int32)
    rows[:, -1] = draws.integers(0, SHAPE.text_vocab_size, length)
    spoken = slice(length // 3, length // 2)
    rows[spoken, -1] = -1
    rows[spoken, :-1] = draws.integers(0, SHAPE.codebook_size, rows[spoken, :-1].shape)
    return rows


def with_frames(rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """A prompt and the frames that followed it. frames: (F, K)."""
    return np.concatenate([rows, np.pad(frames, ((0, 0), (0, 1)), constant_values=-1).astype(np.int32)])


def passes_of(slot: int, rows: np.ndarray, frame: int, ends: Sequence[int]) -> list[PromptRows]:
    """The slot's rows in passes that end there. frame: which is made next."""
    last = len(rows) - 1
    bounds = [0, *sorted({min(end, last) for end in ends}), last]
    return [
        PromptRows(slot, a, rows[a:b], FirstFrame(rows[-1], last, frame, SAMPLING) if b == last else None)
        for a, b in pairwise(bounds)
        if a < b or b == last
    ]


def state_of(step: PackedFrameStep, slot: int) -> list[torch.Tensor]:
    """Keys and values that the slot has, its next input and its next position."""
    position = step.state.position[slot]
    kept = [part[slot, : int(position)].clone() for layer in step.backbone.cache.layers for part in layer]
    return [*kept, step.state.next_embedding[slot].clone(), position.clone()]


def made(step: PackedFrameStep | GraphRunner, slots: Sequence[int], count: int) -> np.ndarray:
    """(count, slots, K) codes of some frames."""
    return np.stack([step(torch.tensor(slots)).numpy()[:, :-1] for _ in range(count)])


@torch.inference_mode()
def alone(weights: PackedWeights, slot: int) -> tuple[np.ndarray, list[torch.Tensor]]:
    """The frames of a slot that is alone, prefilled in one pass, on one thread and without wide vectors: (F, K); and
    what they leave.
    """
    step = PackedFrameStep(weights, SLOTS)
    with narrow_vectors():
        step.prefill(passes_of(slot, prompt_rows(slot), 0, []))
        return made(step, [slot], FRAMES)[:, 0], state_of(step, slot)


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("ends", [[], [1], [8, 40, 41], list(range(1, 200))], ids=["whole", "one", "some", "rows"])
@torch.inference_mode()
def test_prefill_in_any_passes_leaves_the_bits_of_frame_steps(
    weights: PackedWeights, ends: list[int], num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a loss, the frames made so far are prefilled by another replica."""
    frames, expected = alone(weights, 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    for made_so_far in (1, 17, FRAMES):
        rows = with_frames(prompt_rows(0), frames[:made_so_far])
        step = PackedFrameStep(weights, SLOTS)
        for one in passes_of(0, rows, made_so_far, ends):
            step.prefill([one])
        rest = FRAMES - made_so_far
        if rest:
            np.testing.assert_array_equal(made(step, [0], rest)[:, 0], frames[made_so_far:])
        assert_same(state_of(step, 0), expected)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("constant_shape", [False, True])
@torch.inference_mode()
def test_prompts_and_frames_in_a_batch_have_the_bits_of_those_alone(
    weights: PackedWeights, num_threads: int, constant_shape: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [alone(weights, slot) for slot in range(SLOTS)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    step = PackedFrameStep(weights, SLOTS)
    runner = GraphRunner(step, SLOTS, prefill_rows=512, constant_shape=constant_shape)
    slots = [4, 0, 8, 2, 7, 1, 6, 3, 5]
    runner.prefill([passes_of(slot, prompt_rows(slot), 0, [])[0] for slot in slots])
    together = made(runner, slots, FRAMES)
    for column, slot in enumerate(slots):
        np.testing.assert_array_equal(together[:, column], expected[slot][0])
        assert_same(state_of(step, slot), expected[slot][1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@torch.inference_mode()
def test_what_a_slot_held_before_changes_no_bit(weights: PackedWeights, value: float) -> None:
    """Positions past a row's own are read in whole vectors: of a sequence that had the slot before."""
    step = PackedFrameStep(weights, SLOTS)
    for part in (part for layer in step.backbone.cache.layers for part in layer):
        part.fill_(value)
    for slot in (0, 1):  # up to the window's last position, and from the first
        step.prefill(passes_of(slot, prompt_rows(slot), 0, []))
        frames, expected = alone(weights, slot)
        np.testing.assert_array_equal(made(step, [slot], FRAMES)[:, 0], frames)
        assert_same(state_of(step, slot), expected)


@pytest.mark.parametrize("length", [1, 64, 100, 172])
@torch.inference_mode()
def test_positions_copied_from_another_slot_leave_the_same_bits(weights: PackedWeights, length: int) -> None:
    frames, expected = alone(weights, 0)
    step, other = PackedFrameStep(weights, SLOTS), SLOTS - 1
    step.prefill(passes_of(0, prompt_rows(0), 0, []))
    step.backbone.cache.copy(0, other, length)
    for one in passes_of(other, prompt_rows(0), 0, [length]):
        if one.start >= length:
            step.prefill([one])
    np.testing.assert_array_equal(made(step, [other], FRAMES)[:, 0], frames)
    assert_same(state_of(step, other), expected)


@pytest.mark.parametrize(
    ("column", "given", "problem"),
    [
        (-1, SHAPE.text_vocab_size, "text id 96 is not below 96"),
        (0, SHAPE.audio_vocab_size, "audio id 131 is not below 131"),
    ],
)
@torch.inference_mode()
def test_an_unknown_id_is_refused(weights: PackedWeights, column: int, given: int, problem: str) -> None:
    rows = prompt_rows(0)
    rows[3, column] = given
    with pytest.raises(IndexError, match=problem):
        PackedFrameStep(weights, SLOTS).prefill(passes_of(0, rows, 0, []))


@pytest.mark.parametrize(
    ("slot", "start", "problem"),
    [(0, 32, "position 203 is not below 203"), (SLOTS + 1, 0, "slot 10 is not below 10")],
)
@torch.inference_mode()
def test_a_place_that_the_cache_has_not_is_refused(weights: PackedWeights, slot: int, start: int, problem: str) -> None:
    """As by torch's operations; a kernel would write into other memory."""
    step = PackedFrameStep(weights, SLOTS)
    before = [part.clone() for layer in step.backbone.cache.layers for part in layer]
    with pytest.raises(IndexError, match=problem):
        step.prefill([PromptRows(slot, start, prompt_rows(0)[:172])])
    assert_same([part for layer in step.backbone.cache.layers for part in layer], before)
