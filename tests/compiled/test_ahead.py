"""What launches ask memory for, as compiled: all of it once, nothing else, and no other result."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.matrix import FLOAT8, Matrix, quantized  # noqa: E402
from csm_engine.execution.ops import triton_ops  # noqa: E402
from csm_engine.execution.ops.ahead import asks  # noqa: E402
from csm_engine.execution.ops.ahead.ask_kernel import PIECE  # noqa: E402
from csm_engine.execution.ops.ahead.asks import Ahead, CachedRows  # noqa: E402
from csm_engine.execution.ops.tile_shapes import TileShape  # noqa: E402
from tests.support.kernels.ptx import memory  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402
from tests.support.kernels.ptx.values import Lanes  # noqa: E402
from tests.support.kernels.random_rope import random_rope  # noqa: E402
from tests.support.kernels.twins import random  # noqa: E402

BF16 = torch.bfloat16
SPLITS = TileShape(16, 16, 128, splits=2, splits_here=1, warps=4, stages=2)
Asked = dict[int, Counter[int]]  # by the number of a tensor: how often each 16 bytes of it were asked for


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    made: Asked = defaultdict(Counter)
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


def product(ahead: Ahead, shape: TileShape) -> Tensor:
    matrix = quantized(random(48, 256, seed=1), "int8")
    matrix = Matrix(matrix.values, matrix.scale, fused=True)
    with compiled_kernels():
        return triton_ops.product(random(17, 256), matrix, added=random(17, 48, seed=2), ahead=ahead, shape=shape)


@pytest.mark.parametrize("splits", [1, 2])
def test_a_product_asks_for_each_byte_of_the_next_matrix_once(asked: Asked, splits: int) -> None:
    """By programs that end early too, of which some have nothing left to ask for."""
    shape = SPLITS if splits > 1 else TileShape(16, 16, 128, 1, 1, 4, 2)
    nothing = product(Ahead(), shape)
    assert not asked
    next_one = torch.zeros(3 * PIECE.value + 4096 + 64, dtype=torch.int8)
    assert torch.equal(product(Ahead(next_one), shape), nothing)
    (found,) = asked.values()
    assert found == Counter(range(0, len(next_one), 16))


def test_a_product_asks_for_the_keys_and_values_before_each_row_s_position(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of at most so many positions as all rows may have in the cache."""
    keys, values = (torch.zeros(4, 512, 2, 64).to(FLOAT8) for _ in range(2))
    slots, positions = torch.tensor([3, 0, 1]), torch.tensor([511, 0, 20])
    monkeypatch.setattr(asks, "MOST_KEY_BYTES", 3 * 2 * 300 * 128)
    rows = CachedRows(keys, values, slots, positions)
    assert rows.most_positions == 300
    matrix = quantized(random(48, 256, seed=1), "int8")
    with compiled_kernels():
        triton_ops.product(random(3, 256), Matrix(matrix.values, matrix.scale, fused=True), ahead=Ahead(rows=rows))
    a_slot = 512 * 128
    expected = Counter([*range(3 * a_slot, 3 * a_slot + 300 * 128, 16), *range(a_slot, a_slot + 20 * 128, 16)])
    assert list(asked.values()) == [expected, expected]


def test_attention_asks_for_the_next_matrix_once(asked: Asked) -> None:
    """Programs without keys ask too."""
    slots, positions, rope = torch.tensor([1, 0]), torch.tensor([300, 5]), random_rope(512, 64)
    qkv = random(2, 6 * 64)
    results = []
    next_one = torch.zeros(5 * PIECE.value, dtype=torch.int8)
    for ahead in (Ahead(), Ahead(next_one)):
        keys, values = (random(3, 512, 1, 64, seed=seed).to(FLOAT8) for seed in (1, 2))
        with compiled_kernels():
            results.append(triton_ops.backbone_attention(qkv, keys, values, slots, positions, rope, 4, ahead=ahead))
    assert torch.equal(*results)
    (found,) = asked.values()
    assert found == Counter(range(0, len(next_one), 16))


def test_positions_that_are_no_whole_parts_of_16_bytes_are_not_asked_for() -> None:
    keys = torch.zeros(2, 8, 1, 8).to(FLOAT8)
    assert CachedRows(keys, keys, torch.tensor([0]), torch.tensor([5])).most_positions == 0
