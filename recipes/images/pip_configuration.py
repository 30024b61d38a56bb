"""This machine's pip configuration, for builds that must not leave it: one file, and the paths it names.

Docker mounts nothing into a build, so there only the build arguments PIP_INDEX and TORCH_INDEX count.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NOT_FOR_A_BUILD = {"disable-pip-version-check", "no-color", "quiet", "verbose"}


def settings() -> dict[str, list[str]]:
    """Option -> values, as `pip config list` shows them: files under environment variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    found: dict[str, list[str]] = {}
    for line in sorted(listing.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in ("global", "install", ":env:") and option not in NOT_FOR_A_BUILD:
            found[option] = value.strip("'").replace("\\n", " ").split()
    return found


def paths(values: list[str]) -> list[Path]:
    """The files and folders of this machine among an option's values."""
    named = [Path(value.removeprefix("file://")) for value in values if value.startswith(("/", "file:///"))]
    return [path for path in named if path.exists()]


def mounts(folder: Path) -> list[str]:
    """Arguments for a build: the configuration, written into `folder`, and every path it names, all read-only."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pip.conf"
    found = settings()
    lines = [f"{option} = {' '.join(values)}" for option, values in sorted(found.items())]
    file.write_text("\n".join(["[global]", *lines]) + "\n", encoding="utf-8")
    # A local index ("simple") links to files beside it.
    named = {path.parent if path.name == "simple" else path for values in found.values() for path in paths(values)}
    sources = [(file.resolve(), Path("/etc/pip.conf")), *((path, path) for path in sorted(named))]
    return [argument for source, target in sources for argument in ("--volume", f"{source}:{target}:ro")]
