"""Products of overlapping blocks with a band matrix, against plain ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest

from csm_bundle.runtime.block_product import BlockProduct
from csm_bundle.runtime.wide_vectors import narrow_vectors

STEP = 20


def banded(inputs: int, outputs: int, width: int) -> np.ndarray:
    """Each output depends on `width` inputs, which move on with it."""
    place, output = np.arange(inputs)[:, None], np.arange(outputs)[None]
    inside = np.abs(place - output * inputs / outputs) < width / 2
    random = np.random.default_rng(0).standard_normal((inputs, outputs))
    return np.where(inside, random, 0).astype(np.float32)


def signal(blocks: int, inputs: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((blocks - 1) * STEP + inputs).astype(np.float32)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 8, 23])
@pytest.mark.parametrize(("inputs", "outputs", "width"), [(50, 31, 9), (50, 70, 100), (200, 147, 40), (64, 96, 2)])
def test_product_equals_a_plain_one(blocks: int, inputs: int, outputs: int, width: int) -> None:
    matrix, samples = banded(inputs, outputs, width), signal(blocks, inputs)
    rows = np.stack([samples[STEP * block :][:inputs] for block in range(blocks)])
    expected = rows.astype(np.float64) @ matrix.astype(np.float64)
    np.testing.assert_allclose(BlockProduct(matrix).of(samples, STEP, blocks), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("vectors", [nullcontext, narrow_vectors])
def test_bits_of_a_block_depend_neither_on_the_others_nor_on_wide_vectors(
    vectors: Callable[[], AbstractContextManager[None]],
) -> None:
    product, samples = BlockProduct(banded(50, 70, 20)), signal(23, 50)
    alone = np.concatenate([product.of(samples[STEP * block :], STEP, 1) for block in range(23)])
    with vectors():
        for blocks in range(1, 24):
            np.testing.assert_array_equal(product.of(samples, STEP, blocks), alone[:blocks])


def test_blocks_that_are_not_there_are_refused() -> None:
    """The kernel would read other memory."""
    with pytest.raises(AssertionError):
        BlockProduct(banded(50, 70, 20)).of(signal(3, 50)[:-1], STEP, 3)
