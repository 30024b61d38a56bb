"""The codec's captured parts at the published sizes, over tensors without data: within the budget, and capturable."""

from __future__ import annotations

import pytest
import torch

from bench.kernel_proof.budget import CODEC_OPERATIONS, complaints_about_codec
from bench.kernel_proof.capturable import Capturable
from bench.kernel_proof.codec_step import PARTS, TracedCodec, tick_ms
from bench.kernel_proof.time_model import Cost, TimeModel


@pytest.fixture(scope="module")
def codec() -> TracedCodec:
    return TracedCodec("bfloat16", 1024)


def test_every_part_is_within_its_budget(codec: TracedCodec) -> None:
    steps = {part: codec.traced(part) for part in PARTS}
    for part, step in steps.items():
        counted = step.operations
        assert complaints_about_codec("bfloat16", part, 1024, counted.total, counted.total_bytes) == []
    # 5.5 GFLOP for a second of Mimi's audio and 19 of the mark's, in 12.5 and 21.5 frames, by another count.
    assert steps["mimi"].flops / 1024 == pytest.approx(5.5e9 / 12.5, rel=0.05)
    assert steps["mark"].flops / 1024 == pytest.approx(19.0e9 / 21.53, rel=0.05)
    model = TimeModel({"product of torch": Cost(3.0, 0.0), "other of torch": Cost(2.0, 0.0)}, 1.0)
    alone, near = (tick_ms(steps, model, "bfloat16", rows) for rows in (0, 65))
    assert near - alone == pytest.approx(4 * steps["near"].modelled_ms(model, "bfloat16"))


def test_growth_of_operations_and_bytes_is_reported() -> None:
    most = CODEC_OPERATIONS["float32"]["mark"]
    assert complaints_about_codec("float32", "mark", 64, most, 10**9) == []
    assert complaints_about_codec("float32", "mark", 64, most + 1, 10**9) == [
        f"codec in float32, mark, 64 rows: {most + 1} operations; at most {most}"
    ]
    assert "GB; at most" in complaints_about_codec("float32", "mark", 1024, most, 10**12)[0]


@torch.inference_mode()
@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_capturable(codec: TracedCodec, part: str) -> None:
    function = codec.part(part)
    with Capturable("meta"):
        function()
