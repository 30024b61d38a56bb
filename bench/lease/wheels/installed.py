"""Checks and installs a folder of wheels. It needs no network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def check(folder: Path, count: int, most_bytes: int) -> int:
    """Returns their bytes. Raises: RuntimeError if there are too many, or another number of wheels."""
    files = sorted(folder.glob("*.whl"))
    size = sum(file.stat().st_size for file in files)
    if len(files) != count:
        raise RuntimeError(f"{folder} holds {len(files)} wheels; {count} are wanted, no more and no fewer")
    if size > most_bytes:
        raise RuntimeError(f"the wheels in {folder} take {size} bytes; at most {most_bytes} are allowed")
    return size


def install(folder: Path, site: Path) -> None:
    """Installs every wheel of a folder into another; nothing if that is there already. That is there once all are
    installed: a call that was ended leaves none behind for the next one to take.

    Raises: subprocess.CalledProcessError; pip has said what is wrong.
    """
    if site.is_dir():
        return
    site.parent.mkdir(parents=True, exist_ok=True)
    unfinished = site.with_name(f"{site.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(unfinished))
    wheels = (str(file) for file in sorted(folder.glob("*.whl")))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
    unfinished.rename(site)
