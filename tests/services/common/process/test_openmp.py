"""Torch's threads sleep instead of spinning while they wait, in every program that loads torch."""

from __future__ import annotations

import os

import pytest

from services.common.process.openmp import let_waiting_threads_sleep
from tests.services.common.process.conftest import ChosenBy

POLICY = "OMP_WAIT_POLICY"


@pytest.mark.parametrize("program", ["engine", "codec", "all_in_one"])
def test_programs_choose_before_torch_is_imported(program: str, chosen_by: ChosenBy) -> None:
    assert chosen_by(program, POLICY) == "PASSIVE"


def test_the_environment_may_choose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POLICY, "ACTIVE")
    let_waiting_threads_sleep()
    assert os.environ[POLICY] == "ACTIVE"
