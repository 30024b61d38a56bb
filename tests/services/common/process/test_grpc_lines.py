"""gRPC's core writes no line of news to standard error, in every program."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import pytest

from services.common import settings
from services.common.process.grpc_lines import leave_out_grpc_news
from tests.services.common.process.test_openmp import SettingsAreReadError

VERBOSITY = "GRPC_VERBOSITY"


@pytest.mark.parametrize("program", ["engine", "codec", "gateway", "http", "all_in_one"])
def test_programs_choose_before_grpc_is_imported(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads standard error, a handshake that failed stopped gRPC, and SIGTERM did not end the process."""
    seen: list[str | None] = []

    def load_settings(settings_class: Any, arguments: Sequence[str] | None = None) -> Any:
        seen.append(os.environ.get(VERBOSITY))
        raise SettingsAreReadError

    module = importlib.import_module(f"services.{program}.__main__")
    monkeypatch.setenv(VERBOSITY, "")  # restored at the end
    monkeypatch.delenv(VERBOSITY)
    monkeypatch.setattr(settings, "load_settings", load_settings)
    monkeypatch.setattr(module, "end_at_signals", lambda: None)
    with pytest.raises(SettingsAreReadError):
        module.main()
    assert seen == ["ERROR"]


def test_the_environment_may_choose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VERBOSITY, "INFO")
    leave_out_grpc_news()
    assert os.environ[VERBOSITY] == "INFO"
