"""The images, one for each Dockerfile: their names, and their size limits."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "images"
BUDGET = Path(__file__).with_name("budget.json")


def names() -> list[str]:
    """The stages that have a Dockerfile, in alphabetical order."""
    return sorted(path.name.removesuffix(".Dockerfile") for path in (ROOT / "docker").glob("*.Dockerfile"))


def image_name(name: str) -> str:
    """A stage's image with the project's version as its tag."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"localhost/csm-{name}:{project['version']}"


def budgets() -> dict[str, int]:
    """The limit of each stage's image in megabytes (10^6 bytes), with the base and CPU builds of torch."""
    found: dict[str, int] = json.loads(BUDGET.read_text(encoding="utf-8"))
    return found
