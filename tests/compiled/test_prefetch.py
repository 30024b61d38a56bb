"""What launches prefetch, as compiled: all of it once, nothing else, and no other result."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import FLOAT8, Matrix, quantized  # noqa: E402
from csm_engine.execution.ops import triton_ops  # noqa: E402
from csm_engine.execution.ops.prefetch import launch_prefetch  # noqa: E402
from csm_engine.execution.ops.prefetch.launch_prefetch import CachedRows, Prefetch  # noqa: E402
from csm_engine.execution.ops.prefetch.prefetch_kernel import PIECE  # noqa: E402
from csm_engine.execution.ops.tile_shapes import TileShape  # noqa: E402
from tests.support.kernels.ptx import memory  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.ptx.values import Lanes  # noqa: E402
from tests.support.kernels.random_rope import random_rope  # noqa: E402
from tests.support.kernels.twins import random  # noqa: E402

SPLITS = TileShape(16, 16, 128, splits=2, splits_here=1, warps=4, stages=2)
Prefetched = dict[int, Counter[int]]  # by the number of a tensor: how often each 16 bytes of it were prefetched


@pytest.fixture
def prefetched(monkeypatch: pytest.MonkeyPatch) -> Prefetched:
    made: Prefetched = defaultdict(Counter)
    check = memory.GlobalMemory.check

    def seen(self: memory.GlobalMemory, addresses: Lanes, size: int, active: Lanes) -> None:
        check(self, addresses, size, active)
        if size <= 16:  # a copy
            return
        for address in addresses[np.asarray(active, bool)].tolist():
            first = address & 0xFFFFFFFF
            assert first % 16 == size % 16 == 0
            made[address >> 32].update(range(first, first + size, 16))

    monkeypatch.setattr(memory.GlobalMemory, "check", seen)
    return made


def product(prefetch: Prefetch, shape: TileShape) -> Tensor:
    matrix = quantized(random(48, 256, seed=1), "int8")
    matrix = Matrix(matrix.values, matrix.scale, fused=True)
    with compiled_kernels():
        return triton_ops.product(random(17, 256), matrix, added=random(17, 48, seed=2), prefetch=prefetch, shape=shape)


@pytest.mark.parametrize("splits", [1, 2])
def test_a_product_prefetches_each_byte_of_the_next_matrix_once(prefetched: Prefetched, splits: int) -> None:
    """By programs that end early too, of which some have nothing left to prefetch."""
    shape = SPLITS if splits > 1 else TileShape(16, 16, 128, 1, 1, 4, 2)
    nothing = product(Prefetch(), shape)
    assert not prefetched
    next_one = torch.zeros(3 * PIECE.value + 4096 + 64, dtype=torch.int8)
    assert torch.equal(product(Prefetch(next_one), shape), nothing)
    (found,) = prefetched.values()
    assert found == Counter(range(0, len(next_one), 16))


def test_a_product_prefetches_the_keys_and_values_before_each_row_s_position(
    prefetched: Prefetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of at most so many positions as all rows may have in the cache."""
    keys, values = (torch.zeros(4, 512, 2, 64).to(FLOAT8) for _ in range(2))
    slots, positions = torch.tensor([3, 0, 1]), torch.tensor([511, 0, 20])
    monkeypatch.setattr(launch_prefetch, "MOST_KEY_BYTES", 3 * 2 * 300 * 128)
    rows = CachedRows(keys, values, slots, positions)
    assert rows.most_positions == 300
    matrix = quantized(random(48, 256, seed=1), "int8")
    with compiled_kernels():
        triton_ops.product(
            random(3, 256), Matrix(matrix.values, matrix.scale, fused=True), prefetch=Prefetch(rows=rows)
        )
    a_slot = 512 * 128
    expected = Counter([*range(3 * a_slot, 3 * a_slot + 300 * 128, 16), *range(a_slot, a_slot + 20 * 128, 16)])
    assert list(prefetched.values()) == [expected, expected]


def test_attention_prefetches_the_next_matrix_once(prefetched: Prefetched) -> None:
    """Programs without keys prefetch too."""
    slots, positions, rope = torch.tensor([1, 0]), torch.tensor([300, 5]), random_rope(512, 64)
    qkv = random(2, 6 * 64)
    results = []
    next_one = torch.zeros(5 * PIECE.value, dtype=torch.int8)
    for prefetch in (Prefetch(), Prefetch(next_one)):
        keys, values = (random(3, 512, 1, 64, seed=seed).to(FLOAT8) for seed in (1, 2))
        with compiled_kernels():
            results.append(
                triton_ops.backbone_attention(qkv, keys, values, slots, positions, rope, 4, prefetch=prefetch)
            )
    assert torch.equal(*results)
    (found,) = prefetched.values()
    assert found == Counter(range(0, len(next_one), 16))


def test_positions_whose_size_is_no_multiple_of_16_bytes_are_not_prefetched() -> None:
    keys = torch.zeros(2, 8, 1, 8).to(FLOAT8)
    assert CachedRows(keys, keys, torch.tensor([0]), torch.tensor([5])).most_positions == 0
