"""The kernels of a prefill pass against their plain-torch twins, in Triton's interpreter."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import FLOAT8  # noqa: E402
from csm_engine.execution.ops import torch_ops
from csm_engine.execution.ops.prompt import prompt_launches
from csm_engine.execution.ops.tile_shapes import PromptShape
from csm_engine.scheduling.buckets import PROMPT_TILE, in_tiles
from tests.support.kernels.random_rope import random_rope  # noqa: E402

SLOTS, LENGTH, HEAD_DIM = 6, 80, 16
PROMPTS = {3: (5, 20), 0: (0, 16), 4: (60, 3), 1: (33, 40)}  # slot -> first position, rows: some end in a tile's middle
HEADS = pytest.mark.parametrize(("heads", "kv_heads"), [(8, 2), (3, 1)])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@cache
def keeps_bits(dtype: torch.dtype) -> bool:
    """Whether NumPy, which multiplies for the interpreter, gives a row the same bits at every place of a tile. It does
    with AVX-512, and in float32 not with AVX2 alone.
    """
    if dtype is not torch.float32:
        return True
    tile, matrix = random(PROMPT_TILE, 64).numpy(), random(64, 64, seed=1).numpy()
    products = [np.roll(np.matmul(np.roll(tile, by, axis=0), matrix), -by, axis=0) for by in range(PROMPT_TILE)]
    return all(np.array_equal(each, products[0]) for each in products)


def assert_close(ours: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    assert ours.float().isfinite().all()
    assert (ours.float() - expected.float()).abs().max() <= tolerance * expected.float().abs().max()


def pass_of(prompts: dict[int, tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """slots and positions of a pass, each prompt in whole tiles, and which rows are real."""
    slots, positions, real = [], [], []
    for slot, (first, rows) in prompts.items():
        padding = in_tiles(rows) - rows
        slots += [slot] * rows + [SLOTS] * padding
        positions += [*range(first, first + rows), *([0] * padding)]
        real += [True] * rows + [False] * padding
    return torch.tensor(slots), torch.tensor(positions), torch.tensor(real)


@DTYPES
def test_embed_skips_masked_ids(dtype: torch.dtype) -> None:
    codebooks, vocab, width, rows = 4, 11, 100, 7
    audio, text = random(codebooks * vocab, width, dtype=dtype), random(30, width, seed=1, dtype=dtype)
    ids = torch.randint(-1, vocab, (codebooks + 1, rows), generator=torch.Generator().manual_seed(2))
    ids[:, 3] = -1
    ids[:-1, 4], ids[-1, 4] = -1, 29
    ours, expected = prompt_launches.embed(ids, audio, text, vocab), torch_ops.embed(ids, audio, text, vocab)
    assert_close(ours, expected, dtype)
    assert not ours[3].any() and torch.equal(ours[4], text[29])


@DTYPES
@HEADS
@pytest.mark.parametrize(
    "float8_kv", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["same type", "float8 keys"]
)
def test_rows_of_many_prompts_are_written_and_attend_each_to_its_own_slot(
    dtype: torch.dtype, heads: int, kv_heads: int, float8_kv: bool
) -> None:
    slots, positions, real = pass_of(PROMPTS)
    rope, kept = random_rope(LENGTH, HEAD_DIM), FLOAT8 if float8_kv else dtype
    qkv = random(len(slots), (heads + 2 * kv_heads) * HEAD_DIM, dtype=dtype)
    if float8_kv:  # of numbers that need no rounding: the interpreter rounds otherwise
        qkv, rope = qkv.to(FLOAT8).to(dtype), torch.tensor([1.0, 0.0]).expand_as(rope).contiguous()
    caches = [random(SLOTS + 1, LENGTH, kv_heads, HEAD_DIM, seed=seed).to(kept) for seed in (1, 2)]
    keys, values = (cache.clone() for cache in caches)
    prompt_launches.write_rows(qkv, caches[0], caches[1], slots, positions, rope, heads)
    torch_ops.write_rows(qkv, keys, values, slots, positions, rope, heads)
    for ours, twin in zip(caches, (keys, values), strict=True):
        assert_close(ours[:SLOTS], twin[:SLOTS], dtype)  # the spare slot holds any of the padding rows
    attended = prompt_launches.prompt_attention(
        qkv, keys, values, slots, positions, rope, heads, shape=PromptShape(block=32)
    )
    twin = torch_ops.prompt_attention(qkv, keys, values, slots, positions, rope, heads)
    assert_close(attended[real], twin[real], dtype)
    assert attended.isfinite().all()


@DTYPES
def test_bits_of_a_row_depend_on_its_position_alone(dtype: torch.dtype) -> None:
    """Not on the rows beside it, nor on its place in the tile, nor on where its chunk begins."""
    heads, kv_heads = 8, 2
    rope = random_rope(LENGTH, HEAD_DIM)
    keys, values = (random(SLOTS + 1, LENGTH, kv_heads, HEAD_DIM, seed=seed, dtype=dtype) for seed in (1, 2))
    slots, positions, real = pass_of(PROMPTS)
    qkv = random(len(slots), (heads + 2 * kv_heads) * HEAD_DIM, dtype=dtype)
    together = prompt_launches.prompt_attention(qkv, keys, values, slots, positions, rope, heads)
    for rows in (slice(0, 20), slice(2 * PROMPT_TILE + 5, 3 * PROMPT_TILE), slice(len(slots) - 48, len(slots) - 8)):
        for first in (rows.start, rows.start + 3):
            here = torch.arange(first, rows.stop)[real[first : rows.stop]]
            if len({int(slot) for slot in slots[here]}) == 1:
                alone = prompt_launches.prompt_attention(
                    qkv[here], keys, values, slots[here], positions[here], rope, heads
                )
                if keeps_bits(dtype):
                    assert torch.equal(alone, together[here])
                else:
                    assert_close(alone, together[here], dtype)


def test_a_prompt_s_last_tile_may_be_the_end_of_the_pass() -> None:
    slots, positions = torch.full((21,), 2), torch.arange(10, 31)
    qkv, rope = random(21, 12 * HEAD_DIM), random_rope(LENGTH, HEAD_DIM)
    keys, values = (random(SLOTS + 1, LENGTH, 2, HEAD_DIM, seed=seed) for seed in (1, 2))
    ours = prompt_launches.prompt_attention(qkv, keys, values, slots, positions, rope, 8)
    assert_close(ours, torch_ops.prompt_attention(qkv, keys, values, slots, positions, rope, 8), torch.float32)
