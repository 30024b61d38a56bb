"""What a program has chosen in the environment before it imports libraries that read it once."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.common import settings

ChosenBy = Callable[[str, str], str | None]


class SettingsAreReadError(Exception):
    """The state of a program before its slow imports."""


@pytest.fixture
def chosen_by(monkeypatch: pytest.MonkeyPatch) -> ChosenBy:
    """Begins a program, and returns the value that it gives to a variable of the environment."""

    def chosen_by(program: str, variable: str) -> str | None:
        seen: list[str | None] = []

        def load_settings(settings_class: Any, arguments: Sequence[str] | None = None) -> Any:
            seen.append(os.environ.get(variable))
            raise SettingsAreReadError

        module = importlib.import_module(f"services.{program}.__main__")
        monkeypatch.setenv(variable, "")  # restored at the end
        monkeypatch.delenv(variable)
        monkeypatch.setattr(settings, "load_settings", load_settings)
        monkeypatch.setattr(module, "end_at_signals", lambda: None)
        with pytest.raises(SettingsAreReadError):
            module.main()
        (value,) = seen
        return value

    return chosen_by
