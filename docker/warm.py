"""Starts a stage and stops it, so that Python writes the bytecode of every module that a start imports.

Usage: python warm.py STAGE, while an image is built. What only a start on a GPU imports is compiled as well. Other
modules of the packages get no bytecode: nothing imports them. A stage that does not start fails the build.
"""

from __future__ import annotations

import asyncio
import compileall
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.common.settings import load_settings

ANY_PORT = ("--host=127.0.0.1", "--port=0", "--metrics-port=0")
ARGUMENTS = {
    "gateway": ("--health-port=0", "--code-sealing-keyring={0}/sealing.json", "--voices-database={0}/voices.sqlite"),
    "engine": ("--health-port=0", "--bundle=bundles/builtin"),
    "codec": ("--health-port=0", "--bundle=bundles/builtin", "--watermark-keyring={0}/keyring.json"),
    "http": (),
}
ON_A_GPU = {"engine": ("csm_engine", "triton")}


def compile_package(name: str) -> None:
    """Its bytecode, if it is there: torch's builds for CPUs bring no Triton."""
    spec = importlib.util.find_spec(name)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        compileall.compile_dir(folder, quiet=1)


async def start_and_stop(start: Callable[[Any], Any], settings: object) -> None:
    stage = await start(settings)
    await stage.stop()


def main() -> None:
    name = sys.argv[1]
    classes = importlib.import_module(f"services.{name}.settings")
    starts = importlib.import_module(f"services.{name}.stage")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [argument.format(Path(folder)) for argument in (*ANY_PORT, *ARGUMENTS[name])]
        settings = load_settings(getattr(classes, f"{name.title()}Settings"), arguments)
        asyncio.run(start_and_stop(getattr(starts, f"start_{name}"), settings))
    for package in ON_A_GPU.get(name, ()):
        compile_package(package)


if __name__ == "__main__":
    main()
