"""The imports of a lease's parts exist on a GPU machine. They are read from the sources; nothing is imported."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from bench.lease.parts import PARTS
from bench.lease.wheels import LIST, wanted

ROOT = Path(__file__).parents[3]
# What the machine's image has of what the project imports, and modules that are not named as their wheels are.
IMAGE = {"httpx", "huggingface_hub", "numpy", "pytest", "safetensors", "scipy", "tokenizers", "torch", "transformers",
         "triton", "yaml"}  # fmt: skip
WHEELS = {line.split("==")[0].replace("-", "_") for line in wanted(LIST.read_text(encoding="utf-8"))}
THERE = IMAGE | WHEELS | {"google"} | sys.stdlib_module_names


def programs() -> list[str]:
    """The modules of all parts, and the test files that they collect."""
    named: set[str] = {"tests.conftest", "tests.gpu.conftest", "bench.lease.__main__"}
    for part in PARTS:
        module = part.arguments[part.arguments.index("-m") + 1]
        if module != "pytest":
            named.add(module)
    named |= {f"tests.gpu.{file.stem}" for file in (ROOT / "tests" / "gpu").glob("test_*.py")}
    return sorted(named)


def source_of(module: str) -> Path | None:
    """The file of a module or package of the project; a folder of one without a file; None of any other."""
    for base in (ROOT, ROOT / "gen" / "python"):
        place = base / module.replace(".", "/")
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
        if place.is_dir():
            return place
    return None


def imports(nodes: list[ast.stmt]) -> list[tuple[str, str | None]]:
    """Module and name of each import that runs when the statements do. Functions and what is for types only are not
    looked into; what may fail in a `try` with a handler is left out.
    """
    found: list[tuple[str, str | None]] = []
    for node in nodes:
        match node:
            case ast.Import():
                found += [(alias.name, None) for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                found += [(module, alias.name) for alias in node.names]
            case ast.If():
                found += imports(node.orelse)
                if ast.unparse(node.test) != "TYPE_CHECKING":
                    found += imports(node.body)
            case ast.Try():
                found += imports([*node.orelse, *node.finalbody, *([] if node.handlers else node.body)])
            case ast.With() | ast.ClassDef():
                found += imports(node.body)
    return found


@cache
def needed(module: str) -> list[tuple[str, str | None]]:
    source = source_of(module)
    if source is None or source.is_dir():
        return []
    return imports(ast.parse(source.read_text(encoding="utf-8")).body)


def missing_from(start: str) -> dict[str, str]:
    """Modules that the machine lacks, each with one of our modules that imports it."""
    missing: dict[str, str] = {}
    todo, seen = [start, f"{start}.__main__"], set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        if "." in module:
            todo.append(module.rpartition(".")[0])
        for name, part in needed(module):
            top = name.partition(".")[0]
            if source_of(top) is None:
                missing |= {} if top in THERE else {top: module}
            else:
                todo += [name, f"{name}.{part}"]
    return missing


@pytest.mark.parametrize("program", programs())
def test_a_program_of_a_lease_imports_only_what_the_machine_has(program: str) -> None:
    assert source_of(program) is not None and missing_from(program) == {}


def test_an_indirect_import_is_found() -> None:
    """The gateway reads sound files with PyAV, which is not among the wheels of a lease."""
    assert "av" in missing_from("services.gateway.audio.decoders")
