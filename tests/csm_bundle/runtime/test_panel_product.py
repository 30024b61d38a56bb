"""Sums that stay in registers, against plain ones, and that their bits depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from numba import float32, int64

from csm_bundle.runtime import panel_product
from csm_bundle.runtime.panel_product import panel_linear
from csm_bundle.runtime.panels import LANES, in_panels
from csm_bundle.runtime.wide_vectors import narrow_vectors, processor_has_wide_vectors
from tests.support.kernels.vector_sums import dots, dots_of_two, largest, total, two_rows


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def multiplied(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x: (B, K); weight: (N, K); bias: (N,) -> (B, N)."""
    panels = in_panels(torch.from_numpy(weight))
    added = None if bias is None else torch.from_numpy(bias)
    return panel_linear(torch.from_numpy(x), panels, len(weight), added).numpy()


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 8, 15])
@pytest.mark.parametrize("inputs", [1, 7, 384])
@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 640])
def test_product_equals_a_plain_one(rows: int, inputs: int, outputs: int) -> None:
    x, weight = numbers(rows, inputs), numbers(outputs, inputs, seed=1)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64)
    np.testing.assert_allclose(multiplied(x, weight), expected, rtol=1e-5, atol=2e-5)


def test_the_bias_is_added_last() -> None:
    x, weight, bias = numbers(3, 50), numbers(70, 50, seed=1), numbers(70, seed=2)
    np.testing.assert_array_equal(multiplied(x, weight, bias), multiplied(x, weight) + bias)


def test_inputs_and_bias_may_lie_apart_in_memory() -> None:
    x, weight, bias = numbers(3, 50), numbers(70, 50, seed=1), numbers(70, seed=2)
    apart = multiplied(np.repeat(x, 2, axis=1)[:, ::2], weight, np.repeat(bias, 2)[::2])
    np.testing.assert_array_equal(apart, multiplied(x, weight, bias))


@pytest.mark.parametrize("vectors", [nullcontext, narrow_vectors])
def test_bits_of_a_row_depend_neither_on_the_others_nor_on_wide_vectors(
    vectors: Callable[[], AbstractContextManager[None]],
) -> None:
    x, weight = numbers(17, 53), numbers(70, 53, seed=1)
    alone = np.concatenate([multiplied(row[None], weight) for row in x])
    with vectors():
        for begin in range(len(x)):
            for end in range(begin + 1, len(x) + 1):
                np.testing.assert_array_equal(multiplied(x[begin:end], weight), alone[begin:end])


@pytest.mark.skipif(not processor_has_wide_vectors(), reason="the processor has no wide vectors")
def test_wide_vectors_are_used_where_the_processor_has_them() -> None:
    part = panel_product._begin_panel
    part.compile((float32[:, ::1], int64, int64, int64, float32[:, :, ::1], int64, float32[:, ::1]))
    assert all("zmm" in assembly for assembly in part.inspect_asm().values())


def test_bits_of_an_output_do_not_depend_on_its_place() -> None:
    x, weight = numbers(3, 53), numbers(70, 53, seed=1)
    np.testing.assert_array_equal(multiplied(x, weight[5:]), multiplied(x, weight)[:, 5:])


def test_what_is_not_a_number_stays_in_its_row() -> None:
    x, weight = numbers(4, 53), numbers(70, 53, seed=1)
    expected = multiplied(x, weight)
    x[1, 7] = np.nan
    found = multiplied(x, weight)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(expected, 1, axis=0))


@pytest.mark.parametrize("part", [1, 5, 64, 100])
def test_sums_in_parts_have_the_bits_of_whole_ones(part: int) -> None:
    x, weight = numbers(2, 100), numbers(100, LANES + 3, seed=1)
    whole, in_parts = np.zeros((2, LANES + 5), np.float32), np.zeros((2, LANES + 5), np.float32)
    two_rows(x, weight, whole, 0)
    two_rows(x, weight, in_parts, part)
    np.testing.assert_array_equal(in_parts, whole)
    np.testing.assert_allclose(whole[:, :LANES], x @ weight[:, :LANES], rtol=1e-5, atol=1e-5)
    assert not whole[:, LANES:].any()


@pytest.mark.parametrize("count", [8, 64, 128])
def test_dots_equal_plain_ones_wherever_their_row_is(count: int) -> None:
    x, weight = numbers(3, count), numbers(LANES, count, seed=1)
    y, turned = np.empty((3, LANES), np.float32), np.empty((3, LANES), np.float32)
    dots(x, weight, y)
    np.testing.assert_allclose(y, x.astype(np.float64) @ weight.T.astype(np.float64), rtol=1e-5, atol=1e-5)
    dots(x, np.roll(weight, 3, axis=0), turned)
    np.testing.assert_array_equal(turned, np.roll(y, 3, axis=1))


@pytest.mark.parametrize("count", [8, 64, 128])
def test_dots_of_two_rows_have_the_bits_of_each_alone(count: int) -> None:
    x, weight = numbers(3, count), numbers(LANES, count, seed=1)
    alone, together = np.zeros((3, LANES), np.float32), np.zeros((3, LANES), np.float32)
    dots(x, weight, alone)
    dots_of_two(x, weight, together)
    np.testing.assert_array_equal(together[::2], alone[::2])
    assert not together[1].any()


@pytest.mark.parametrize("vectors", [1, 7, 200])
def test_the_largest_is_found_in_any_place_beside_what_is_not_a_number(vectors: int) -> None:
    x, found = numbers(LANES * vectors), np.empty(1, np.float32)
    x[::3] = np.nan
    for place in range(0, len(x), 5):
        y = x.copy()
        y[place] = 9
        largest(y, found)
        assert found == 9
    largest(np.full(LANES, -np.inf, np.float32), found)
    assert found == -np.inf


@pytest.mark.parametrize("vectors", [0, 1, 7, 200])
def test_a_sum_has_the_order_of_eight_lanes_on_any_processor(vectors: int) -> None:
    x, found = numbers(LANES * vectors), np.empty(1, np.float32)
    total(x, found)
    lanes = np.zeros(LANES, np.float32)
    for vector in x.reshape(vectors, LANES):
        lanes += vector
    while len(lanes) > 1:
        lanes = lanes[::2] + lanes[1::2]
    np.testing.assert_array_equal(found, lanes)
