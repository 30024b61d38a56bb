"""`python -m recipes.images`: builds every image that has a Dockerfile, and compares its size with the budget.

The results go into FOLDER/results.json: seconds, of the clock and of the processor (Podman alone: Docker builds in its
daemon), bytes and the machine. Exit status 1: an image is over its budget.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from typing import Any

from bench.machine import commit, cpu_name
from recipes.images import debian_base, pip_configuration
from recipes.images.catalog import FOLDER, ROOT, budgets, image_name, names
from recipes.images.container_tool import BUILD_SECONDS, ContainerTool, ContainerToolError, find_tool


def build(tool: ContainerTool, name: str, base: str | None) -> dict[str, Any]:
    """Builds one image. Returns its size and how long that took."""
    arguments = [f"PYTHON_IMAGE={base}"] if base else []
    arguments += [f"{index}={os.environ[index]}" for index in ("PIP_INDEX", "TORCH_INDEX") if os.environ.get(index)]
    options = [option for argument in arguments for option in ("--build-arg", argument)]
    if tool.name == "podman":  # Docker does so by itself, but it mounts nothing into a build
        options += ["--network", "host", "--format", "docker", *pip_configuration.mounts(FOLDER)]
    began, cpu_began = time.monotonic(), processor_seconds()
    file, tag = ROOT / "docker" / f"{name}.Dockerfile", image_name(name)
    tool.run("build", "--file", str(file), "--tag", tag, *options, str(ROOT), seconds=BUILD_SECONDS)
    taken = {"build_seconds": round(time.monotonic() - began, 1)}
    if tool.name == "podman":
        taken["cpu_seconds"] = round(processor_seconds() - cpu_began, 1)
    return {**taken, "bytes": tool.image_bytes(tag)}


def processor_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to build; all by default: {', '.join(names())}")
    parser.add_argument("--base", help="the image to build on, or `debian` to make one; else what the Dockerfiles say")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names())):
        parser.error(f"NAME is one of {', '.join(names())}, not {', '.join(unknown)}")
    try:
        tool = find_tool(FOLDER)
        base = debian_base.make(tool, FOLDER) if options.base == "debian" else options.base
        results: dict[str, Any] = {"benchmark": "images", "device": cpu_name(), "commit": commit(), "tool": tool.name}
        results["rows"] = []
        if base:
            results["base"] = {"name": base, "bytes": tool.image_bytes(base)}
        over = []
        for name in options.names or names():
            built = build(tool, name, base)
            results["rows"].append({"image": name, **built})
            budget = budgets()[name]
            print(
                f"{image_name(name)}: {built['bytes'] / 1e6:.0f} MB of {budget} MB, {built['build_seconds']:.0f} s",
                flush=True,
            )
            over += [name] if built["bytes"] > budget * 1e6 else []
            (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except ContainerToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if over:
        print(f"error: over the budget of recipes/images/budget.json: {', '.join(over)}", file=sys.stderr)
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
