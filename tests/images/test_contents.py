"""What is in each image and what is not. Every image is asked once by a program that runs inside it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from recipes.images.catalog import ROOT, budgets, image_name, names
from recipes.images.container_tool import ContainerTool
from tests.test_architecture import doubles

pytestmark = [pytest.mark.images, pytest.mark.timeout(300)]

# Their wheels hold no licence's text: sentencex is under MIT, the others under Apache-2.0, whose text is /app/LICENSE.
WITHOUT_TEXT = {"sentencepiece", "sentencex", "tokenizers"}
INSIDE = """
import importlib.metadata, importlib.util, json, os, pathlib
app = pathlib.Path("/app")
known = ["torch", "pip", "pytest", "cyclonedx_py", "librosa", "sklearn", "scipy", "aiohttp"]
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "files": [str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()],
    "writable": [folder for folder, _, _ in os.walk("/") if not folder.startswith(("/proc", "/sys", "/dev"))
                 and os.access(folder, os.W_OK)],
    "modules": [name for name in known if importlib.util.find_spec(name)],
    "packages": {item.metadata["Name"]: item.version for item in importlib.metadata.distributions()},
    "without_text": [item.metadata["Name"] for item in importlib.metadata.distributions() if not [
        file for file in item.files if any(word in file.name.upper() for word in ("LICEN", "COPYING", "NOTICE"))]],
    "bill": json.loads((app / "sbom.cdx.json").read_text()),
}))
"""
START = """
import importlib, json, os, sys
import services.{0}.stage
modules = [module.__spec__ for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
sources = [spec for spec in modules if spec.has_location and spec.origin.endswith(".py")]
print(json.dumps([len(sources), [spec.origin for spec in sources if not os.path.exists(spec.cached)]]))
"""


@cache
def inside(tool: ContainerTool, name: str) -> dict[str, Any]:
    command = ("run", "--rm", "--read-only", "--network=none", "--entrypoint", "python", image_name(name), "-c", INSIDE)
    answer: dict[str, Any] = json.loads(tool.run(*command))
    return answer


def locked(name: str) -> set[tuple[str, str]]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return {(package, version) for package, _, version in (line.partition("==") for line in lines) if version}


def test_every_image_has_a_budget_and_keeps_it(tool: ContainerTool) -> None:
    assert sorted(budgets()) == names()
    over = {name: tool.image_bytes(image_name(name)) / 1e6 for name in names()}
    assert {name: size for name, size in over.items() if size > budgets()[name]} == {}


def test_program_runs_as_user_10001(tool: ContainerTool, image: str) -> None:
    assert inside(tool, image)["user"] == [10001, 10001]


def test_user_may_write_to_temporary_and_declared_folders_alone(tool: ContainerTool, image: str) -> None:
    allowed = (
        "/tmp",
        "/var/tmp",
        "/run",  # Podman mounts temporary folders at all three
        "/var/lib/csm/huggingface",
        "/var/lib/csm/keys",
        "/var/lib/csm/voices",
    )
    assert [folder for folder in inside(tool, image)["writable"] if not folder.startswith(allowed)] == []


def test_image_holds_no_test_double(tool: ContainerTool, image: str) -> None:
    files = {file for file in inside(tool, image)["files"] if not file.startswith("bundles/")}
    assert f"services/{image}/__main__.py" in files
    assert doubles(files) == set()


def test_torch_is_where_a_model_runs_alone(tool: ContainerTool, image: str) -> None:
    assert inside(tool, image)["modules"] == (["torch"] if image in ("engine", "codec") else [])


def test_packages_are_those_of_the_lock(tool: ContainerTool, image: str) -> None:
    packages = {(canonicalize_name(name), version) for name, version in inside(tool, image)["packages"].items()}
    assert locked(image) <= packages
    if image not in ("engine", "codec"):  # torch brings packages of its own
        assert packages == locked(image)


def test_bill_of_materials_names_every_package_with_its_licence(tool: ContainerTool, image: str) -> None:
    answer = inside(tool, image)
    components = {canonicalize_name(part["name"]): part for part in answer["bill"]["components"]}
    assert {canonicalize_name(name) for name in answer["packages"]} == set(components)
    notices = (ROOT / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8")
    unknown = {name for name, part in components.items() if not part.get("licenses")}
    assert {name for name in unknown if f"| {name} |" not in notices} == set()
    assert {"LICENSE", "THIRD_PARTY_NOTICES.md"} <= set(answer["files"])


def test_start_compiles_no_bytecode(tool: ContainerTool, image: str) -> None:
    command = ("run", "--rm", "--read-only", "--network=none", "--entrypoint", "python", image_name(image), "-c")
    count, without = json.loads(tool.run(*command, START.format(image)))
    assert count > 100
    assert without == []


def test_packages_bring_the_texts_of_their_licences(tool: ContainerTool, image: str) -> None:
    assert set(inside(tool, image)["without_text"]) <= WITHOUT_TEXT
