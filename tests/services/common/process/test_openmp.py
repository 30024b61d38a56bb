"""Torch's threads sleep instead of spinning while they wait, in every program that loads torch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import pytest

from services.common import settings
from services.common.process.openmp import let_waiting_threads_sleep

POLICY = "OMP_WAIT_POLICY"


class SettingsAreReadError(Exception):
    """The state of a program before it imports torch."""


@pytest.mark.parametrize("program", ["engine", "codec", "all_in_one"])
def test_programs_choose_before_torch_is_imported(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def load_settings(settings_class: Any, arguments: Sequence[str] | None = None) -> Any:
        seen.append(os.environ.get(POLICY))
        raise SettingsAreReadError

    module = importlib.import_module(f"services.{program}.__main__")
    monkeypatch.setenv(POLICY, "")  # restored at the end
    monkeypatch.delenv(POLICY)
    monkeypatch.setattr(settings, "load_settings", load_settings)
    monkeypatch.setattr(module, "end_at_signals", lambda: None)
    with pytest.raises(SettingsAreReadError):
        module.main()
    assert seen == ["PASSIVE"]


def test_the_environment_may_choose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POLICY, "ACTIVE")
    let_waiting_threads_sleep()
    assert os.environ[POLICY] == "ACTIVE"
