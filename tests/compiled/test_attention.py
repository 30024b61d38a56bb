"""Attention, compiled, against its plain-torch twins."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import FLOAT8  # noqa: E402
from csm_engine.execution.ops import torch_ops, triton_ops  # noqa: E402
from csm_engine.execution.ops.prompt import prompt_launches  # noqa: E402
from csm_engine.scheduling.buckets import in_tiles  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.random_rope import random_rope  # noqa: E402
from tests.support.kernels.twins import assert_close, random  # noqa: E402

BF16 = torch.bfloat16
HEADS, KV_HEADS, HEAD_DIM = 8, 2, 64  # four query heads of a key head, as in csm-1b


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_backbone_attention_at_every_kind_of_position(cached: torch.dtype) -> None:
    length, slots, positions = 768, torch.tensor([3, 0, 1, 2]), torch.tensor([0, 63, 300, 767])
    qkv, rope = random(4, (HEADS + 2 * KV_HEADS) * HEAD_DIM), random_rope(length, HEAD_DIM)
    keys, values = (random(5, length, KV_HEADS, HEAD_DIM, seed=seed).to(cached) for seed in (1, 2))
    ours_keys, ours_values = keys.clone(), values.clone()
    expected = torch_ops.backbone_attention(qkv, keys, values, slots, positions, rope, HEADS)
    with compiled_kernels() as ran:
        ours = triton_ops.backbone_attention(qkv, ours_keys, ours_values, slots, positions, rope, HEADS)
    assert ran == ["backbone_attention_kernel"]
    assert_close(ours, expected, 1e-2)
    assert_close(ours_keys, keys, 1e-2)
    assert_close(ours_values, values, 1e-2)


@pytest.mark.parametrize("members", [1, 4])  # query heads of a program
def test_depth_attention_at_every_kind_of_position(members: int) -> None:
    rows, heads, kv_heads, head_dim, length = 2, 4, 1, 128, 32
    rope = random_rope(length, head_dim)
    for position in (0, 1, 9, 31):
        qkv = random(rows, (heads + 2 * kv_heads) * head_dim)
        keys, values = (random(rows, kv_heads, length, head_dim, seed=seed) for seed in (1, 2))
        ours_keys, ours_values = keys.clone(), values.clone()
        expected = torch_ops.depth_attention(qkv, keys, values, position, rope, heads)
        with compiled_kernels():
            ours = triton_ops.depth_attention(qkv, ours_keys, ours_values, position, rope, heads, members=members)
        assert_close(ours, expected, 1e-2)
        assert_close(ours_keys, keys, 1e-2)
        assert_close(ours_values, values, 1e-2)


@pytest.mark.parametrize("cached", [BF16, FLOAT8], ids=["bf16", "float8"])
def test_prompts_of_one_pass_are_written_and_attend_each_to_its_own_slot(cached: torch.dtype) -> None:
    """Of three slots, one in the middle of its conversation and one with a single row."""
    slots, positions, real = list[int](), list[int](), list[bool]()
    for slot, first, rows in ((3, 0, 20), (0, 100, 17), (1, 63, 1)):
        padding = in_tiles(rows) - rows
        slots += [slot] * rows + [4] * padding
        positions += [*range(first, first + rows), *([0] * padding)]
        real += [True] * rows + [False] * padding
    where = torch.tensor(slots), torch.tensor(positions)
    qkv, rope = random(len(slots), (HEADS + 2 * KV_HEADS) * HEAD_DIM), random_rope(256, HEAD_DIM)
    keys, values = (random(5, 256, KV_HEADS, HEAD_DIM, seed=seed).to(cached) for seed in (1, 2))
    ours_keys, ours_values = keys.clone(), values.clone()
    torch_ops.write_rows(qkv, keys, values, *where, rope, HEADS)
    expected = torch_ops.prompt_attention(qkv, keys, values, *where, rope, HEADS)
    with compiled_kernels() as ran:
        prompt_launches.write_rows(qkv, ours_keys, ours_values, *where, rope, HEADS)
        ours = prompt_launches.prompt_attention(qkv, ours_keys, ours_values, *where, rope, HEADS)
    assert ran == ["write_rows_kernel", "prompt_attention_kernel"]
    assert_close(ours[real], expected[real], 1e-2)
    assert_close(ours_keys[:4], keys[:4], 1e-2)
    assert_close(ours_values[:4], values[:4], 1e-2)


def test_keys_and_values_beyond_float8_are_clamped() -> None:
    slots, positions = torch.tensor([3, 0, 1]), torch.tensor([0, 63, 64])
    qkv = random(3, (HEADS + 2 * KV_HEADS) * HEAD_DIM) * 1000
    unturned = torch.tensor([1.0, 0.0]).expand(128, HEAD_DIM // 2, 2).contiguous()
    for twin, kernel in (
        (torch_ops.backbone_attention, triton_ops.backbone_attention),
        (torch_ops.write_rows, prompt_launches.write_rows),
    ):
        keys, values, our_keys, our_values = torch.zeros(4, 4, 128, KV_HEADS, HEAD_DIM).to(FLOAT8)
        twin(qkv, keys, values, slots, positions, unturned, HEADS)
        with compiled_kernels():
            kernel(qkv, our_keys, our_values, slots, positions, unturned, HEADS)
        for ours, expected in ((our_keys, keys), (our_values, values)):
            assert torch.equal(ours.view(torch.uint8), expected.view(torch.uint8))
            assert (expected[slots, positions].float().abs() == 448).float().mean() > 0.1
