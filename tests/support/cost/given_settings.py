"""Settings of a server from arguments alone. The environment is not read: that takes most of their construction."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from services.common.settings import ProgramSettings

S = TypeVar("S", bound=ProgramSettings)


def given_settings(settings_class: type[S], **values: Any) -> S:
    """Checked, as the settings of a program are."""
    settings = settings_class.__new__(settings_class)
    BaseModel.__init__(settings, **values)
    return settings
