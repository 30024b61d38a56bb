"""A base image made of Debian's own packages by mmdebstrap, where no registry is in reach: Python 3.11 and pip.

It stands in for python:3.11-slim-bookworm. On a GPU the engine also needs Python's headers, which it does not hold.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from recipes.images.container_tool import ContainerTool, ContainerToolError

NAME = "localhost/csm-python:debian"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
NO_PAPERS_BUT_COPYRIGHT = [
    f"--dpkgopt=path-{rule}"
    for rule in (
        "exclude=/usr/share/man/*",
        "exclude=/usr/share/locale/*",
        "exclude=/usr/share/doc/*",
        "include=/usr/share/doc/*/copyright",
    )
]
# As in python's image: `python` is there, and pip installs into the system for the stage that makes the stubs.
HOOKS = ('ln -s python3 "$1/usr/bin/python"', 'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED')
SECONDS = 1200.0


def make(tool: ContainerTool, folder: Path) -> str:
    """The image's name; made unless the tool has it.

    Raises:
        ContainerToolError: mmdebstrap is missing or failed.
    """
    if tool.run("images", "--quiet", NAME).strip():
        return NAME
    archive = folder / "base.tar"
    hooks = [f"--customize-hook={hook}" for hook in HOOKS]
    include = f"--include={','.join(PACKAGES)}"
    command = ["mmdebstrap", "--variant=minbase", include, *NO_PAPERS_BUT_COPYRIGHT, *hooks, SUITE, str(archive)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise ContainerToolError("mmdebstrap is not installed; on Debian: apt-get install mmdebstrap") from None
    except subprocess.TimeoutExpired:
        raise ContainerToolError(f"mmdebstrap: no end after {SECONDS:.0f} s") from None
    if done.returncode:
        raise ContainerToolError(f"mmdebstrap: {done.stderr[-3000:]}")
    tool.run("import", str(archive), NAME)
    archive.unlink()
    return NAME
