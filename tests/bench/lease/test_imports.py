"""The imports of a lease's parts exist on a GPU machine. They are read from the sources; nothing is imported."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from bench.lease.parts import PARTS
from bench.lease.wheels.lists import SERVICE_WHEELS, WHEELS, Wheels

ROOT = Path(__file__).parents[3]
# What the machine's image has of what the project imports.
IMAGE = {"filelock", "httpx", "huggingface_hub", "llvmlite", "numba", "numpy", "prometheus_client", "psutil", "pytest",
         "safetensors", "scipy", "tokenizers", "torch", "transformers", "triton", "yaml"}  # fmt: skip
# Modules that are not named as their wheels are.
MODULES = {"grpcio": "grpc", "grpcio_health_checking": "grpc_health", "grpcio_reflection": "grpc_reflection",
           "grpcio_status": "grpc_status", "protobuf": "google", "python_dotenv": "dotenv"}  # fmt: skip
STAGES = ["services.engine", "services.codec", "services.gateway"]


def there(wheels: Wheels) -> frozenset[str]:
    """The modules that the machine has with these wheels."""
    names = [name.split("==")[0].replace("-", "_") for name in wheels.names]
    return frozenset({MODULES.get(name, name) for name in names} | IMAGE | {"google"} | sys.stdlib_module_names)


def programs() -> list[str]:
    """The modules of all parts but the service, and the test files that they collect."""
    named: set[str] = {"tests.conftest", "tests.gpu.conftest", "bench.lease.__main__"}
    for part in PARTS:
        module = part.arguments[part.arguments.index("-m") + 1]
        if module != "pytest" and part.wheels is WHEELS:
            named.add(module)
    named |= {f"tests.gpu.{file.stem}" for file in (ROOT / "tests" / "gpu").glob("test_*.py")}
    return sorted(named)


def source_of(module: str) -> Path | None:
    """The file of a module or package of the project; a folder of one without a file; None of any other."""
    for base in (ROOT, ROOT / "gen" / "python", ROOT / "clients" / "python"):
        place = base / module.replace(".", "/")
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
        if place.is_dir():
            return place
    return None


def imports(nodes: list[ast.stmt], *, called: bool) -> list[tuple[str, str | None]]:
    """Module and name of each import that runs when the statements do, and if `called`, when their functions do. What
    is for types only is not looked into; what may fail in a `try` with a handler is left out.
    """
    found: list[tuple[str, str | None]] = []
    for node in nodes:
        match node:
            case ast.Import():
                found += [(alias.name, None) for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                found += [(module, alias.name) for alias in node.names]
            case ast.If():
                found += imports(node.orelse, called=called)
                if ast.unparse(node.test) != "TYPE_CHECKING":
                    found += imports(node.body, called=called)
            case ast.Try():
                body = [] if node.handlers else node.body
                found += imports([*node.orelse, *node.finalbody, *body], called=called)
            case ast.With() | ast.AsyncWith() | ast.ClassDef():
                found += imports(node.body, called=called)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if called:
                found += imports(node.body, called=called)
    return found


@cache
def needed(module: str, *, called: bool) -> list[tuple[str, str | None]]:
    source = source_of(module)
    if source is None or source.is_dir():
        return []
    return imports(ast.parse(source.read_text(encoding="utf-8")).body, called=called)


def missing_from(start: str, wheels: Wheels = WHEELS, *, called: bool = False) -> dict[str, str]:
    """Modules that the machine lacks, each with one of our modules that imports it."""
    has = there(wheels)
    missing: dict[str, str] = {}
    todo, seen = [start, f"{start}.__main__"], set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        if "." in module:
            todo.append(module.rpartition(".")[0])
        for name, part in needed(module, called=called):
            top = name.partition(".")[0]
            if source_of(top) is None:
                missing |= {} if top in has else {top: module}
            else:
                todo += [name, f"{name}.{part}"]
    return missing


@pytest.mark.parametrize("program", programs())
def test_a_program_of_a_lease_imports_only_what_the_machine_has(program: str) -> None:
    assert source_of(program) is not None and missing_from(program) == {}


@pytest.mark.parametrize("program", ["bench.lease.service", *STAGES])
def test_the_service_imports_only_what_the_machine_has(program: str) -> None:
    """Stages in their functions too: they import most when they start."""
    called = program in STAGES
    assert source_of(program) is not None and missing_from(program, SERVICE_WHEELS, called=called) == {}


def test_an_indirect_import_is_found() -> None:
    """The gateway reads sound files with PyAV, which is not among the wheels of a lease."""
    assert "av" in missing_from("services.gateway.audio.decoders")
    assert "av" in missing_from("services.gateway", called=True)
