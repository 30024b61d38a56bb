"""Writes docs/settings.md from the classes of settings: every flag, variable, default, bound and description.

python docs/settings_page.py    after a setting has changed (`make settings-page`)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import annotated_types
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from services.all_in_one.settings import AllInOneSettings  # noqa: E402
from services.codec.settings import CodecSettings  # noqa: E402
from services.common.settings import ProgramSettings, SettingName, setting_names  # noqa: E402
from services.engine.settings import EngineSettings  # noqa: E402
from services.gateway.settings import GatewaySettings  # noqa: E402
from services.http.settings import HttpSettings  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
PROGRAMS: Sequence[tuple[str, str, type[ProgramSettings]]] = (
    ("Gateway", "services.gateway", GatewaySettings),
    ("Engine", "services.engine", EngineSettings),
    ("Codec", "services.codec", CodecSettings),
    ("HTTP server", "services.http", HttpSettings),
    ("All in one", "services.all_in_one", AllInOneSettings),
)
INTRODUCTION = """# Settings

<!-- Made by docs/settings_page.py (`make settings-page`); a test compares it with the classes. -->

A flag overrides an environment variable, and a variable overrides the default. `--help` of a program prints the same.
The name of a variable is the program's prefix and the flag in capitals: the engine's `--health-port` is
`CSM_ENGINE_HEALTH_PORT`. A switch is turned off by a second flag, such as `--no-reflection`. With a value that is not
allowed, a program ends with exit code 2. A warning names variables that have its prefix and belong to no setting.

`make serve` passes only `--bundle`. Its server reads the variables of [all in one](#all-in-one), and those of the
stages for settings that all in one does not have:
`CSM_ALL_IN_ONE_SLOTS=2 CSM_GATEWAY_VOICES_FOLDER=voices make serve`. It logs a warning for variables of the stages that
have no effect there, such as `CSM_ENGINE_SLOTS`.

A path may begin with `~`. An empty path is an error: to unset a path, leave its variable out.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return INTRODUCTION + "".join(_program(*program) for program in PROGRAMS)


def _program(title: str, module: str, settings: type[ProgramSettings]) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    rows = "".join(_row(name, settings.model_fields[name.field]) for name in setting_names(settings))
    return (
        f"\n## {title}\n\n`python -m {module}`, variables `{prefix}...`\n\n"
        f"| flag | default | allowed | meaning |\n|---|---|---|---|\n{rows}{_former(settings)}"
    )


def _row(name: SettingName, field: FieldInfo) -> str:
    default = "must be given" if field.is_required() else _value(field.default)
    return f"| `{name.flag}` | {default} | {_allowed(field)} | {field.description} |\n"


def _value(default: object) -> str:
    if default is None:
        return "unset"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default}`"


def _allowed(field: FieldInfo) -> str:
    low = next((str(rule.ge) for rule in field.metadata if isinstance(rule, annotated_types.Ge)), "")
    above = next((f"more than {rule.gt}" for rule in field.metadata if isinstance(rule, annotated_types.Gt)), "")
    high = next((str(rule.le) for rule in field.metadata if isinstance(rule, annotated_types.Le)), "")
    if low or above or high:
        return " ".join(filter(None, (low and f"from {low}", above, high and f"to {high}")))
    choices = getattr(field.annotation, "__args__", ())
    return ", ".join(f"`{choice}`" for choice in choices if isinstance(choice, str))


def _former(settings: type[ProgramSettings]) -> str:
    if not settings.former_names:
        return ""
    flags = {name.field: name.flag for name in setting_names(settings)}
    names = ", ".join(f"`--{old.replace('_', '-')}` (`{flags[new]}`)" for old, new in settings.former_names.items())
    return f"\nFormer names work in this release, as flags and as variables, with a warning: {names}.\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
