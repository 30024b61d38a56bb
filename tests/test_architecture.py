"""The house: who may import whom, how full a folder may be, what light processes load, and what leaves it in a wheel or
an image.

The rules of imports are contracts in pyproject.toml ([tool.importlinter]).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("csm_bundle", "csm_codec", "csm_engine", "csm_text", "services")
IN_THE_WHEEL = {*PRODUCT, "csm_client", "csm"}  # csm: the stubs of the protos
MAX_MODULES = 14  # of a folder
NOT_OURS = {".venv", "gen", "build", "node_modules"}
TEST_DOUBLE = re.compile(
    r"(?<![a-z])(fakes?|tests?|testing|conftest|tiny|scripted|humming|oracle|mocks?|dummy)(?![a-z])"
)
STAGES = ["gateway", "engine", "codec", "http"]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Holds the packages under `root` against the contracts of the pyproject.toml there."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    paths = ":".join(str(path) for path in (root, root / "clients" / "python"))
    return subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The product's sources and all that a wheel could be made of, apart from the checkout."""
    copy_sources(tmp_path, (*PRODUCT, "clients/python", "gen/python", "tests", "bench", "recipes"))
    return tmp_path


def copy_sources(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def test_imports_keep_the_contracts() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


# Into a module, a line, and how it is reported.
WRONG_IMPORTS = [
    ("csm_engine/types.py", "import csm_codec.codes", "csm_engine.types -> csm_codec.codes"),
    ("csm_bundle/errors.py", "import services.common", "csm_bundle.errors -> services.common"),
    ("csm_text/symbols.py", "import csm_bundle.errors", "csm_text.symbols -> csm_bundle.errors"),
    ("csm_engine/scheduling/outcome.py", "import torch", "csm_engine.scheduling.outcome -> torch"),
    (
        "services/gateway/synthesis/result.py",
        "from csm_bundle import state_dict",  # which imports torch
        "services.gateway.synthesis.result -> csm_bundle.state_dict",
    ),
    ("services/engine/load.py", "from tests.support.tiny import csm", "services.engine.load -> tests"),
    ("services/common/telemetry/spans.py", "from services.common.telemetry import tracing", ".spans -> .tracing"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is reported of sources with all of them."""
    folder = tmp_path_factory.mktemp("broken")
    copy_sources(folder, (*PRODUCT, "clients/python"))
    for module, line, _ in WRONG_IMPORTS:
        source = folder / module
        source.write_text(source.read_text() + f"\n\ndef _late() -> None:\n    {line}\n")
    done = lint_imports(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.partition("Broken contracts")[2].split())


@pytest.mark.parametrize("reported", [reported for _, _, reported in WRONG_IMPORTS])
def test_contracts_would_catch_a_wrong_import(broken: str, reported: str) -> None:
    assert f"- {reported} (" in broken


def folders() -> Iterator[tuple[Path, int]]:
    """Every folder of sources and the number of modules that lie in it."""
    for path, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in NOT_OURS and not name.startswith(".")]
        if modules := sum(name.endswith(".py") for name in files):
            yield Path(path).relative_to(ROOT), modules


def test_no_folder_is_overfull() -> None:
    found = dict(folders())
    assert found[Path("csm_engine/loop")] >= 3
    assert {str(folder): modules for folder, modules in found.items() if modules > MAX_MODULES} == {}


def doubles(paths: set[str]) -> set[str]:
    return {path for path in paths if TEST_DOUBLE.search(path.lower())}


def test_every_file_of_tests_support_would_be_known_as_a_double() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "support").rglob("*.py")}
    assert len(files) > 10 and doubles(files) == files
    assert doubles({"services/gateway/fake_stages.py", "csm_engine/testing/csm.py", "services/latest.py"}) == {
        "services/gateway/fake_stages.py",
        "csm_engine/testing/csm.py",
    }


def test_wheel_holds_the_product_and_no_test_double(copy: Path) -> None:
    program = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert {name.split("/")[0] for name in files} == IN_THE_WHEEL
    for package in (*PRODUCT, "csm_client"):
        source = copy / ("clients/python" if package == "csm_client" else "")
        wanted = {str(path.relative_to(source)) for path in (source / package).rglob("*.py") if path.parent.is_dir()}
        assert wanted == {name for name in files if name.startswith(f"{package}/") and name.endswith(".py")}
    assert doubles(files) == set()
    page = {f"services/http/page/{path.name}" for path in (ROOT / "services/http/page").iterdir()}
    assert len(page) > 10 and page <= files


def copied(stage: str) -> list[str]:
    """What the image of a stage takes from the repository."""
    text = (ROOT / "docker" / f"{stage}.Dockerfile").read_text()
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    return [source for line in sources for source in line.split()]


@pytest.mark.parametrize("stage", STAGES)
def test_images_take_no_test_double(stage: str) -> None:
    sources = copied(stage)
    assert "services" in sources
    files = {
        str(path.relative_to(ROOT))
        for source in sources
        for path in ([ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*"))
    }
    assert doubles({file for file in files if "__pycache__" not in file and not file.startswith("bundles/")}) == set()


def test_http_image_takes_the_page() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("!")]
    assert "services" in copied("http") and not [line for line in ignored if re.search(r"page|html|js|css|svg", line)]


def test_no_test_double_reaches_the_build_of_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    papers = {"LICENSE", "THIRD_PARTY_NOTICES.md"}
    assert allowed == {
        *PRODUCT,
        *papers,
        "clients/python/csm_client",
        "bundles",
        "docker/healthcheck.py",
        "docker/prune.py",
        "docker/warm.py",
        "protos",
        "requirements",
    }


@pytest.mark.parametrize("stage", STAGES)
def test_images_take_every_package_that_their_program_imports(stage: str) -> None:
    graph = grimp.build_graph(*PRODUCT, cache_dir=None)
    needed = {name.split(".")[0] for name in graph.find_upstream_modules(f"services.{stage}.__main__")} | {"services"}
    assert needed == set(copied(stage)) & set(PRODUCT)


LIGHT = [
    "csm_client",
    "csm_client.command.cli",
    "services.gateway.__main__",
    "services.gateway.stage",
    "services.http.__main__",
    "services.http.stage",
    "services.engine.settings",
    "services.codec.settings",
    "services.all_in_one.settings",
]


def test_light_processes_load_neither_torch_nor_numpy() -> None:
    """One process loads one module after another, and names the first that loads them."""
    program = f"""
import importlib, sys
for module in {LIGHT}:
    importlib.import_module(module)
    if heavy := {{"torch", "numpy"}} & set(sys.modules):
        sys.exit(f"{{module}} loads {{heavy}}")
"""
    environment = {"PYTHONPATH": ":".join(str(ROOT / path) for path in (".", "gen/python", "clients/python"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
