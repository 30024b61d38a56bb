"""The environment as a source of settings: one variable for each field, whatever its case, such as CSM_ENGINE_PORT.

It takes the text as it is. A field whose value is written as JSON needs pydantic's own source, which looks at the type
of each field, and so takes longer than all else that a class of settings does.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from services.common.former_names import variable_of


class Variables(PydanticBaseSettingsSource):
    """The values of the variables that are set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Unused: `__call__` reads all variables itself."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        set_variables = {name.upper(): value for name, value in os.environ.items()}
        of_fields = {field: variable_of(self.settings_cls, field).upper() for field in self.settings_cls.model_fields}
        return {field: set_variables[name] for field, name in of_fields.items() if name in set_variables}
