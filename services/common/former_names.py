"""Former names of settings: flags and environment variables that work for one more release, with a warning.

This module knows no setting: a class of settings maps former field names to fields.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

log = logging.getLogger("csm.settings")


def flag_of(field: str) -> str:
    """The flag of a field, such as --health-port."""
    return "--" + field.replace("_", "-")


def variable_of(settings_class: type[BaseSettings], field: str) -> str:
    """The environment variable of a field, such as CSM_ENGINE_HEALTH_PORT."""
    return f"{settings_class.model_config.get('env_prefix', '')}{field.upper()}"


def renamed_flags(arguments: Sequence[str], former_names: Mapping[str, str]) -> list[str]:
    """The arguments with former flags replaced; a warning for each flag, however often it is given."""
    flags = {flag_of(former): flag_of(field) for former, field in former_names.items()}
    given = [argument.partition("=") for argument in arguments]
    for former in dict.fromkeys(flag for flag, _, _ in given if flag in flags):
        _warn(former, flags[former])
    return [flags.get(flag, flag) + equals + value for flag, equals, value in given]


class FormerVariables(PydanticBaseSettingsSource):
    """Values of environment variables under former names; a variable under the present name overrides them."""

    def __init__(self, settings_class: type[BaseSettings], former_names: Mapping[str, str]) -> None:
        super().__init__(settings_class)
        self._former_names = former_names

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Unused: `__call__` reads all variables itself."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for former, field in self._former_names.items():
            variable = variable_of(self.settings_cls, former)
            if (value := os.environ.get(variable)) is not None:
                _warn(variable, variable_of(self.settings_cls, field))
                found[field] = value
        return found


def _warn(former: str, name: str) -> None:
    log.warning("%s is now %s; the former name will not work in the next release", former, name)
