"""The measured tiles hold together: they cut their matrices evenly and add up in one order at every row block."""

from __future__ import annotations

import pytest

from csm_engine.execution.ops.tile_shapes import FASTER_UP_TO, MEASURED, is_faster, tile_shape


@pytest.mark.parametrize("matrix", MEASURED, ids=str)
def test_tiles_cut_their_matrix_evenly_and_in_the_same_splits(matrix: tuple[int, int, bool, int]) -> None:
    outputs, width, gated, weight_bytes = matrix
    shapes = [tile_shape(outputs, width, rows, gated=gated, weight_bytes=weight_bytes) for rows in (1, 17, 64, 1024)]
    assert len({(shape.splits, shape.output_block) for shape in shapes}) == 1
    for shape in shapes:
        assert outputs % shape.output_block == 0 and width % (shape.splits * shape.width_block) == 0
        weights = shape.output_block * weight_bytes * (2 if gated else 1)
        assert shape.stages * shape.width_block * (weights + 2 * shape.row_block) <= 227 * 1024  # shared memory
    assert [shape.row_block for shape in shapes] == [16, 32, 64, 64]


def test_ours_runs_up_to_the_rows_it_was_measured_at_and_over_bfloat16_only() -> None:
    for (outputs, width, gated), rows in FASTER_UP_TO.items():
        assert is_faster(outputs, width, rows, gated=gated, weight_bytes=2)
        assert not is_faster(outputs, width, rows + 1, gated=gated, weight_bytes=2)
        assert not is_faster(outputs, width, 1, gated=gated, weight_bytes=4)
        assert (outputs, width, gated, 2) in MEASURED
    assert not is_faster(40, 64, 1, gated=False, weight_bytes=2)
