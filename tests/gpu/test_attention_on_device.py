"""Every kernel of attention on the device against its plain-torch twin on the CPU, at csm-1b's widths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch")

from csm_engine.execution.matrix import FLOAT8  # noqa: E402
from csm_engine.execution.ops import torch_ops, triton_ops  # noqa: E402
from csm_engine.execution.ops.prompt import prompt_launches  # noqa: E402
from csm_engine.scheduling.buckets import in_tiles  # noqa: E402
from tests.gpu.device import ON_GPU, put, row_by_row, times  # noqa: E402
from tests.support.kernels.random_rope import random_rope  # noqa: E402
from tests.support.kernels.twins import assert_close, random  # noqa: E402

BF16 = torch.bfloat16
BACKBONE = {"heads": 32, "kv_heads": 8, "head_dim": 64}
DEPTH = {"heads": 8, "kv_heads": 2, "head_dim": 128}
# Rows of a batch, and those that are compared with themselves alone. The interpreter takes minutes for many.
MANY_ROWS: dict[str, tuple[int, tuple[int, ...]]] = {"backbone": (70, (0, 33, 69)), "depth": (100, (0, 64, 99))}
if not ON_GPU:
    MANY_ROWS = {"backbone": (3, (0, 2)), "depth": (3, (0, 2))}


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_bits_of_backbone_attention_do_not_depend_on_the_batch(cached: torch.dtype) -> None:
    heads, kv_heads, head_dim = BACKBONE.values()
    rows, alone_rows = MANY_ROWS["backbone"]
    length = 1024
    qkv, rope = put(random(rows, (heads + 2 * kv_heads) * head_dim)), put(random_rope(length, head_dim))
    keys, values = [put(random(rows, length, kv_heads, head_dim, seed=seed).to(cached)) for seed in (1, 2)]
    slots = put(torch.arange(rows))
    positions = (slots * 131 + 7) % length
    for _ in times(20):  # the writes are the same every time
        together = triton_ops.backbone_attention(qkv, keys, values, slots, positions, rope, heads)
        for row in alone_rows:
            one = slice(row, row + 1)
            alone = triton_ops.backbone_attention(qkv[one], keys, values, slots[one], positions[one], rope, heads)
            assert torch.equal(alone, together[one])


def test_bits_of_depth_attention_do_not_depend_on_the_batch() -> None:
    heads, kv_heads, head_dim = DEPTH.values()
    rows, alone_rows = MANY_ROWS["depth"]
    rope = put(random_rope(32, head_dim))
    for position in (0, 1, 8, 9, 31):
        qkv = put(random(rows, (heads + 2 * kv_heads) * head_dim))
        keys, values = (put(random(rows, kv_heads, 32, head_dim, seed=seed)) for seed in (1, 2))
        together = triton_ops.depth_attention(qkv, keys, values, position, rope, heads)
        for row in alone_rows:
            one = slice(row, row + 1)
            alone = triton_ops.depth_attention(qkv[one], keys[one], values[one], position, rope, heads)
            assert torch.equal(alone, together[one])


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_backbone_attention_at_every_kind_of_position(cached: torch.dtype) -> None:
    heads, kv_heads, head_dim = BACKBONE.values()
    length, slots = 2048, torch.tensor([3, 0, 6, 1, 5, 2])
    positions = torch.tensor([0, 63, 64, 256, 1023, 2047])
    qkv, rope = random(6, (heads + 2 * kv_heads) * head_dim), random_rope(length, head_dim)
    caches = [random(7, length, kv_heads, head_dim, seed=seed).to(cached) for seed in (1, 2)]
    expected = [cache.clone() for cache in caches]
    ours = [put(cache) for cache in caches]
    ours_keys, ours_values = ours
    keys, values = expected
    attended = triton_ops.backbone_attention(
        put(qkv), ours_keys, ours_values, put(slots), put(positions), put(rope), heads
    )
    assert_close(attended, torch_ops.backbone_attention(qkv, keys, values, slots, positions, rope, heads))
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other)


PROMPTS = {3: (0, 40), 0: (1000, 256), 5: (63, 1), 1: (2047, 1), 6: (0, 300)}  # slot -> first position, rows
if not ON_GPU:
    PROMPTS = {3: (0, 40), 0: (200, 65), 5: (63, 1)}  # the interpreter takes minutes for the others


def pass_of(prompts: dict[int, tuple[int, int]], pad_slot: int) -> tuple[Tensor, Tensor, Tensor]:
    """(slots, positions, which rows are real) of a prefill pass with each prompt in whole tiles."""
    slots, positions, real = [], [], []
    for slot, (first, rows) in prompts.items():
        padding = in_tiles(rows) - rows
        slots += [slot] * rows + [pad_slot] * padding
        positions += [*range(first, first + rows), *([0] * padding)]
        real += [True] * rows + [False] * padding
    return torch.tensor(slots), torch.tensor(positions), torch.tensor(real)


@pytest.mark.parametrize("cached", [BF16, FLOAT8, torch.float32], ids=["bf16", "float8", "float32"])
def test_prompts_of_one_pass_are_written_and_attend_each_to_its_own_slot(cached: torch.dtype) -> None:
    heads, kv_heads, head_dim = BACKBONE.values()
    slots, positions, real = pass_of(PROMPTS, 7)
    dtype = cached if cached is torch.float32 else BF16
    qkv = random(len(slots), (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    rope = random_rope(2048, head_dim)
    expected = [random(8, 2048, kv_heads, head_dim, seed=seed).to(cached) for seed in (1, 2)]
    ours = [put(cache) for cache in expected]
    on_device, ours_keys, ours_values = put(qkv), ours[0], ours[1]
    where, turns = (put(slots), put(positions)), put(rope)
    prompt_launches.write_rows(on_device, ours_keys, ours_values, where[0], where[1], turns, heads)
    torch_ops.write_rows(qkv, expected[0], expected[1], slots, positions, rope, heads)
    for one, other in zip(ours, expected, strict=True):
        assert_close(one[:7], other[:7])
    twin = torch_ops.prompt_attention(qkv, expected[0], expected[1], slots, positions, rope, heads)[real]
    first = prompt_launches.prompt_attention(on_device, ours_keys, ours_values, where[0], where[1], turns, heads)
    for _ in times(20):  # a race does not show every time
        attended = prompt_launches.prompt_attention(on_device, ours_keys, ours_values, where[0], where[1], turns, heads)
        assert torch.equal(attended, first)
    assert_close(first.cpu()[real], twin)
    worst = (first.cpu()[real].float() - twin.float()).norm(dim=1) / twin.float().norm(dim=1)
    assert worst.max() <= 5e-2, f"row {int(worst.argmax())} is off by {worst.max():.0%}"


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_bits_of_a_prompt_s_rows_depend_on_their_positions_alone(
    cached: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_by_row(monkeypatch)
    heads, kv_heads, head_dim = BACKBONE.values()
    slots, positions, real = (put(part) for part in pass_of(PROMPTS, 7))
    qkv, rope = put(random(len(slots), (heads + 2 * kv_heads) * head_dim)), put(random_rope(2048, head_dim))
    keys, values = [put(random(8, 2048, kv_heads, head_dim, seed=seed).to(cached)) for seed in (1, 2)]
    together = prompt_launches.prompt_attention(qkv, keys, values, slots, positions, rope, heads)
    for slot, (_, rows) in PROMPTS.items():
        here = (slots == slot).nonzero()[:, 0]
        for skipped in {0, rows // 3}:  # another place in its tile
            own = here[skipped:]
            alone = prompt_launches.prompt_attention(qkv[own], keys, values, slots[own], positions[own], rope, heads)
            assert torch.equal(alone, together[own])


@pytest.mark.parametrize("rows", [1, 64])
def test_depth_attention_through_a_whole_frame(rows: int) -> None:
    heads, kv_heads, head_dim = DEPTH.values()
    length = 32
    rope = random_rope(length, head_dim)
    expected = [torch.zeros(rows, kv_heads, length, head_dim, dtype=BF16) for _ in range(2)]
    ours_keys, ours_values = (put(torch.full_like(cache, torch.nan)) for cache in expected)
    keys, values = expected
    for position in range(length):
        qkv = random(rows, (heads + 2 * kv_heads) * head_dim, seed=position)
        attended = triton_ops.depth_attention(put(qkv), ours_keys, ours_values, position, put(rope), heads)
        assert_close(attended, torch_ops.depth_attention(qkv, keys, values, position, rope, heads))
