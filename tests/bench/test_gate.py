"""What passes the gate of the frame-step benchmark, with scripted arms."""

from __future__ import annotations

import pytest
import torch

from bench import gate
from bench.arms import Arm, Ours
from csm_engine.execution.matrix import FLOAT8
from csm_engine.execution.weights import pack
from csm_engine.model.loader import random_model
from csm_engine.types import SamplingParams
from tests.support.tiny.csm import TINY

PROMPTS = torch.zeros(2, 3, 4)


class Scripted:
    """An arm that always makes the same frames, except for one code of one row."""

    def __init__(self, unlike: tuple[int, int, int] | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._codes = torch.arange(gate.FRAMES * 2 * 10).view(gate.FRAMES, 2, 10)
        if unlike is not None:
            self._codes[unlike] += 1000

    def start(self, prompts: torch.Tensor, sampling: SamplingParams) -> None:
        self._frames = iter(self._codes)

    def frame(self) -> torch.Tensor:
        return next(self._frames)


def test_arms_that_agree_are_all_timed() -> None:
    arms: dict[str, Arm] = {"reference": Scripted(), "transformers": Scripted(), "ours": Scripted()}
    assert gate.check(arms, PROMPTS) == {"transformers": 1.0, "ours": 1.0}
    assert list(arms) == ["reference", "transformers", "ours"]


def test_ours_must_be_the_reference_to_the_last_code() -> None:
    with pytest.raises(SystemExit, match="greedy codes of ours are those of reference; no figures"):
        gate.check({"reference": Scripted(), "ours": Scripted((gate.FRAMES - 1, 1, 9))}, PROMPTS)


def test_an_arm_with_other_codes_is_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    arms: dict[str, Arm] = {"reference": Scripted(), "transformers": Scripted((4, 0, 9)), "ours": Scripted()}
    assert gate.check(arms, PROMPTS) == {"transformers": 0.99, "ours": 1.0}
    assert list(arms) == ["reference", "ours"]
    assert "of transformers are those of reference; it is not timed" in capsys.readouterr().out


def test_bfloat16_may_differ_at_a_near_tie_only() -> None:
    tie = Scripted((2, 1, 3), torch.bfloat16)  # row 1 agrees in 23 codes, row 0 in 50
    nonsense = Scripted((0, 0, 1), torch.bfloat16)
    nonsense._codes[0, 1, 1] += 1000
    arms: dict[str, Arm] = {"reference": Scripted(), "ours-bfloat16": tie, "other": nonsense}
    assert gate.check(arms, PROMPTS) == {"ours-bfloat16": round(73 / 74, 4), "other": 0.5}
    assert list(arms) == ["reference", "ours-bfloat16"]


@torch.inference_mode()
def test_logit_error_is_nothing_against_itself_and_small_in_fewer_bits() -> None:
    model = random_model(TINY, seed=1)
    exact = Ours(pack(model), 2)
    rounded = Ours(pack(random_model(TINY, seed=1, dtype=torch.bfloat16)), 2)
    prompts = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    exact.start(prompts, gate.GREEDY)
    codes = exact.frame().long()
    assert gate.logit_error(exact, exact, prompts, codes) == {"relative": 0.0, "same_best": 1.0}
    assert 0 < gate.logit_error(rounded, exact, prompts, codes)["relative"] < 0.03
    weights, cache = Ours(pack(model, quantization="float8"), 2), Ours(pack(model), 2, kv_dtype=FLOAT8)
    assert weights.in_eight_bits and cache.in_eight_bits and not exact.in_eight_bits
    assert 0.005 < gate.logit_error(weights, exact, prompts, codes)["relative"] < 0.1
    assert 0 < gate.logit_error(cache, exact, prompts, codes)["relative"] < 0.1
    assert exact.logits(prompts, codes).argmax(dim=-1).equal(codes), "greedy codes are the best of their own logits"


@torch.inference_mode()
def test_a_row_that_fills_its_slot_is_reported() -> None:
    arm = Ours(pack(random_model(TINY, seed=1)), 1)
    prompt_rows = TINY.backbone.max_seq_len - 4
    arm.start(torch.randn(1, prompt_rows, 32, generator=torch.Generator().manual_seed(0)), gate.GREEDY)
    arm.frame()
    gate.check_no_row_ended([arm])
    for _ in range(5):
        arm.frame()
    with pytest.raises(SystemExit, match="a row ended"):
        gate.check_no_row_ended([arm])
