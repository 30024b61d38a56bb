"""A frame, a start and a copy of a prefix have only operations that can be captured; all others are refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
import torch

from bench.kernel_proof.capturable import Capturable, NotCapturable

X = torch.arange(6.0)

VIOLATIONS: dict[str, tuple[Callable[[], object], str]] = {
    "item": (lambda: X.sum().item(), "reads a value"),
    "bool": (lambda: bool((X > 2).any()), "reads a value"),
    "nonzero": (lambda: X.nonzero(), "depends on values"),
    "mask": (lambda: X[X > 2], "depends on values"),
    "unique": (lambda: X.unique(), "depends on values"),
    "masked_select": (lambda: X.masked_select(X > 2), "depends on values"),
    "random": (lambda: torch.empty(3).uniform_(), "generator"),
    "other device": (lambda: torch.zeros(3, device="meta"), "makes a tensor on meta"),
    "copy to the host": (lambda: torch.empty(6, device="meta").copy_(X), "makes a tensor|copies between"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_operations_that_a_capture_forbids_are_refused(name: str) -> None:
    function, told = VIOLATIONS[name]
    with Capturable("cpu"), pytest.raises(NotCapturable, match=told):
        function()


def test_operations_that_a_capture_allows_run() -> None:
    with Capturable("cpu"):
        y = X[torch.arange(2)] * 2
        assert y.shape == (2,)
        y.masked_fill_(y > 3, 0.0)
        torch.cat([y, y]).to(torch.int16)


STEP = """
from bench.kernel_proof.capturable import Capturable
from bench.kernel_proof.fast_step import PREFILL_ROWS, frame, new_traced_step, prefill, prefill_table, prompts
from bench.kernel_proof.pretended_gpu import pretended_gpu
from bench.shapes import SHAPES
with pretended_gpu(lambda launch: None):
    # The depth kernel does not take sizes as small as the tiny ones.
    step = new_traced_step(FORM, 64, SHAPES["csm-1b-shallow" if FORM == "depth-kernel" else "tiny"])
    for batch in (1, 48, 64) if FORM == "depth-kernel" else (1,):
        frame(step, batch)  # what is made once is made
    for batch in (1, 48, 64):
        with Capturable("meta"):
            frame(step, batch)
    for rows in PREFILL_ROWS:
        table = prefill_table(step, rows)
        with Capturable("meta"):
            prefill(step, table)
    for name, function in prompts(step).items():
        with Capturable("meta"):
            function()
print("passed")
"""


SLOW_FORMS = [pytest.param(form, marks=pytest.mark.slow) for form in ("auto", "fused", "int8", "float8-kv", "float32")]


@pytest.mark.parametrize("form", ["plain", "float8", "depth-kernel", *SLOW_FORMS])
def test_every_form_of_the_step_can_be_captured(
    compiling: Callable[..., subprocess.CompletedProcess[str]], form: str
) -> None:
    done = compiling("-c", f"FORM = {form!r}\n{STEP}")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "passed", done.stderr[-3000:]
