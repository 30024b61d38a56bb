"""The emulation of eight-bit rows: compared with integers, and which numbers it rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.eight_bit_rows.forced import compared, hidden_of, logits_of
from bench.eight_bit_rows.rounding import Arm, MatrixOfRoundedRows, packed_as, rounded, rows_rounded
from bench.eight_bit_rows.words import rates, same_codes
from csm_engine.execution.matrix import quantized
from csm_engine.execution.ops import dispatch
from csm_engine.execution.weights import pack
from csm_engine.model.loader import random_model
from csm_engine.types import Codes
from recipes.builtin_voice.evaluation.voice import Saying
from tests.support.tiny.csm import TINY


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def test_product_of_rounded_numbers_is_that_of_int8_with_int32_sums_of_blocks() -> None:
    x, weight = drawn(5, 256), drawn(48, 256)
    blocks = x.view(5, 4, 64)
    scales = blocks.abs().amax(dim=-1) / 127
    whole = (blocks / scales[..., None]).round().to(torch.int8)
    matrix = quantized(weight, "int8")
    assert matrix.scale is not None
    columns = matrix.values.view(48, 4, 64)
    sums = torch.stack([torch._int_mm(whole[:, i].repeat(4, 1), columns[:, i].t())[:5] for i in range(4)])
    assert sums.dtype is torch.int32 and sums.abs().max() > 2**15
    exact = (sums.float() * scales.t()[..., None]).sum(dim=0) * matrix.scale
    emulated = F.linear(rounded(x, "int8", 64), matrix.values.float() * matrix.scale[:, None])
    torch.testing.assert_close(emulated, exact, rtol=1e-5, atol=1e-5)
    assert (exact - F.linear(x, weight)).abs().max() > 0.05, "the rounding itself is far larger"


@pytest.mark.parametrize(("form", "largest"), [("int8", 127), ("float8", 448)])
def test_each_block_has_the_scale_of_its_own_largest_number(form: str, largest: int) -> None:
    x = torch.cat([drawn(2, 64), 1000 * drawn(2, 64), drawn(2, 32)], dim=1)
    for block, ends in ((64, [(0, 64), (64, 128), (128, 160)]), (None, [(0, 160)])):
        found = rounded(x, form, block)  # type: ignore[arg-type]
        for start, end in ends:
            part = x[:, start:end]
            steps = found[:, start:end] / (part.abs().amax(dim=1, keepdim=True) / largest)
            assert steps.abs().amax(dim=1).sub(largest).abs().max() < 1e-3
            if form == "int8":
                assert (steps - steps.round()).abs().max() < 1e-3
    assert rounded(torch.zeros(1, 64), form, 64).equal(torch.zeros(1, 64))  # type: ignore[arg-type]


def test_halves_go_to_the_even_neighbour() -> None:
    assert rounded(torch.tensor([[127.0, 0.5, 1.5, -2.5]]), "int8", 4).tolist() == [[127.0, 0.0, 2.0, -2.0]]


def test_parts_of_a_sum_are_each_rounded_to_bfloat16() -> None:
    y, weight, x = drawn(3, 256), drawn(48, 256), drawn(3, 48)
    exact = [F.linear(y[:, at : at + 64], weight[:, at : at + 64]) for at in range(0, 256, 64)]
    with rows_rounded():
        found = dispatch.add_linear(x.clone(), y, MatrixOfRoundedRows(weight, parts=4))
    torch.testing.assert_close(found, x + sum(part.bfloat16().float() for part in exact), rtol=1e-6, atol=1e-6)
    assert (found - x - sum(exact)).abs().max() > 1e-3


@torch.inference_mode()
def test_arms_change_what_they_name_and_nothing_else() -> None:
    prompts = list(drawn(3, 9, TINY.backbone.dim))
    generator = torch.Generator().manual_seed(1)
    codes = list(torch.randint(TINY.codebook_size, (3, 4, TINY.num_codebooks), generator=generator))
    model = random_model(TINY, seed=1)
    today = pack(model, compiled=False)
    exact_hidden = hidden_of(today, prompts, codes)
    exact = logits_of(today, exact_hidden, codes)

    def change(arm: Arm) -> tuple[bool, float]:
        weights = packed_as(model, arm, today)
        with rows_rounded():
            hidden = hidden_of(weights, prompts, codes)
            told = compared(logits_of(weights, hidden, codes), exact)
        return torch.allclose(hidden, exact_hidden, atol=1e-5), float(str(told["depth_relative"]))

    assert change(Arm())[1] < 1e-5
    assert change(Arm(norms="weights"))[1] < 1e-5
    for weights, rows in (("int8", "float32"), ("float32", "int8"), ("float8", "float8")):
        same_hidden, depth = change(Arm("depth", weights, rows))  # type: ignore[arg-type]
        assert same_hidden and 1e-3 < depth < 0.2
        same_hidden, both = change(Arm("both", weights, rows))  # type: ignore[arg-type]
        assert not same_hidden and 1e-3 < both < 0.2 and both != depth  # for few codes it may be less
    engine = pack(model, quantization="int8")
    theirs = logits_of(engine, hidden_of(engine, prompts, codes), codes)
    emulated = packed_as(model, Arm("both", "int8", norms="weights"))
    ours = logits_of(emulated, hidden_of(emulated, prompts, codes), codes)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_change_of_words_has_an_interval_over_the_same_texts() -> None:
    today = [(1, 10), (0, 5), (2, 5)] * 10
    same = {"words": 200, "wrong": 30, "share": 0.15, "change": 0.0, "change_low": 0.0, "change_high": 0.0}
    assert rates(today, today) == same
    worse = rates([(wrong + 1, words) for wrong, words in today], today)
    assert worse["share"] == 0.3 and worse["change"] == 0.15
    assert 0.1 < float(str(worse["change_low"])) < 0.15 < float(str(worse["change_high"])) < 0.2


def test_codes_count_until_the_first_unlike_one() -> None:
    codes = np.arange(40, dtype=np.int16).reshape(10, 4)
    other = codes.copy()
    other[2, 1] += 1
    other[3] += 1

    def saying(codes: Codes) -> Saying:
        return Saying(np.zeros(0, np.float32), codes, ended=True, context_rows=0)

    assert same_codes([saying(codes)], [saying(codes)]) == {"same_codes": 1.0, "same_sayings": 1.0}
    found = same_codes([saying(other), saying(codes)], [saying(codes), saying(codes)])
    assert found == {"same_codes": 0.98, "same_sayings": 0.5}  # 9 and 40 of 50
