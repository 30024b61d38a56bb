"""Each image installs what its program imports: the imports of our own sources, followed, against the lock.

Sources are read, not run, so that nothing that happens to be installed here can hide a gap.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ImportsReader = Callable[[Path], Iterator[str]]
OURS = {"csm_bundle", "csm_client", "csm_codec", "csm_engine", "csm_text", "services"}
STUBS = {"csm"}  # generated from protos/ while the image is built


def source_of(module: str, root: Path) -> Path | None:
    path = (root / "clients" / "python" if module.startswith("csm_client") else root) / Path(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def third_party_imports(start: str, root: Path, imported_names: ImportsReader) -> set[str]:
    """Top-level names from outside that the module `start` imports, itself or through our other modules."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        top = module.partition(".")[0]
        if module in seen:
            continue
        seen.add(module)
        if top not in OURS:
            found.add(module)
            continue
        parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
        source = source_of(module, root)
        waiting += parents if source is None else [*parents, *imported_names(source)]
    return found


def locked_packages(stage: str, root: Path) -> set[str]:
    lines = (root / "requirements" / f"{stage}.txt").read_text().splitlines()
    names: set[str] = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    return names if stage in ("gateway", "http") else names | {"torch", "triton"}  # triton comes with torch


def test_following_imports_finds_indirect_imports(imported_names: ImportsReader, tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("")
    (tmp_path / "services" / "a.py").write_text("from services import b\n")
    (tmp_path / "services" / "b.py").write_text("def f():\n    import numpy.random\n")
    assert third_party_imports("services.a", tmp_path, imported_names) == {"numpy.random"}


@pytest.mark.parametrize("stage", ["gateway", "http", "engine", "codec"])
def test_image_installs_what_the_program_imports(imported_names: ImportsReader, repository: Path, stage: str) -> None:
    locked = locked_packages(stage, repository)
    distributions = packages_distributions()
    for module in third_party_imports(f"services.{stage}.__main__", repository, imported_names):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in STUBS or top == "google":
            continue
        assert any(canonicalize_name(name) in locked for name in distributions.get(top, [top])), (
            f"{module} is not in {stage}.txt"
        )


@pytest.mark.parametrize("stage", ["gateway", "http"])
def test_light_images_have_no_torch(repository: Path, stage: str) -> None:
    assert not {"torch", "numpy"} & locked_packages(stage, repository)


@pytest.mark.parametrize(("system", "installs_triton"), [("linux", True), ("darwin", False)])
def test_packages_without_a_wheel_for_a_system_are_not_installed_there(
    repository: Path, system: str, installs_triton: bool
) -> None:
    lines = (repository / "requirements" / "dev.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    names = {pin.name for pin in pins if pin.marker is None or pin.marker.evaluate({"sys_platform": system})}
    assert "numba" in names
    assert ("triton" in names) == installs_triton  # PyPI has it for Linux alone
    assert "sphn" not in names  # PyPI has it for no Linux on Arm
