"""What a maintainer relies on: CI runs what its script runs, hooks run `make check`, the API is frozen, one version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import csm_client
import pytest
import yaml

from tests.conftest import FOLDERS_OF_A_MARKER

BUF = Path(sys.executable).with_name("buf")


@pytest.fixture(scope="module")
def makefile(repository: Path) -> str:
    return (repository / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def version(repository: Path) -> str:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: str = project["version"]
    return found


def recipe(makefile: str, target: str) -> list[str]:
    """The commands of a target, with its variables as they are by default."""
    (lines,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    image = re.findall(r"^API_IMAGE := (.*)$", makefile, re.MULTILINE)[0]
    return [line.strip().replace("$(BIN)", ".venv/bin").replace("$(API_IMAGE)", image) for line in lines.splitlines()]


def ci_targets(repository: Path) -> list[str]:
    """The make targets of .ci/run."""
    return re.findall(r"^make (\S+)$", (repository / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)


def test_workflow_and_script_call_the_same_targets(repository: Path) -> None:
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1]["run"] == "make ${{ matrix.target }}"
    assert job["strategy"]["matrix"]["target"] == ci_targets(repository) == ["check", "test", "test-compiled"]


@pytest.mark.parametrize(
    "path",
    [".ci/run", ".github/workflows/coverage.yml", ".github/workflows/images.yml", "CONTRIBUTING.md", "README.md"],
)
def test_targets_that_are_named_exist(repository: Path, makefile: str, path: str) -> None:
    text = (repository / path).read_text(encoding="utf-8")
    named = {
        word
        for words in re.findall(r"(?:`|^ *(?:- run: )?)make ((?:[a-z-]+ ?)+)", text, re.M)
        for word in words.split()
    }
    phony = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)", makefile, re.MULTILINE)[0].replace("\\\n", " ").split()
    assert named and named <= set(phony)


def test_hooks_run_the_commands_of_make_check(repository: Path, makefile: str) -> None:
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    assert [hook["entry"] for hook in repo["hooks"]] == recipe(makefile, "check")


@pytest.fixture
def made(repository: Path, tmp_path: Path) -> Path:
    """A checkout in which nothing is left to do for `make protos`."""
    for name in ("Makefile", "pyproject.toml", "protos", "requirements"):
        source = repository / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    stamps = [tmp_path / ".venv" / ".stamps" / name for name in ("venv", "torch", "packages")]
    files = [*(path for path in tmp_path.rglob("*") if path.is_file()), *stamps, tmp_path / "gen" / "python" / ".made"]
    for seconds, path in enumerate(files):  # each is newer than those before it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 + seconds, 1e9 + seconds))
    return tmp_path


def commands(checkout: Path, target: str) -> str:
    """What make would run for the target."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.check_output(["make", "-n", target], cwd=checkout, env=environment, text=True)


def test_stubs_are_made_again_where_their_folder_is_gone_or_a_proto_is_newer(made: Path) -> None:
    assert "grpc_tools.protoc" not in commands(made, "protos")
    (made / "protos" / "csm" / "v1" / "tts.proto").touch()
    assert "grpc_tools.protoc" in commands(made, "protos")
    (made / "gen" / "python" / ".made").touch()
    assert "grpc_tools.protoc" not in commands(made, "protos")
    shutil.rmtree(made / "gen")
    told = commands(made, "protos")
    assert "grpc_tools.protoc" in told and "pip install" not in told


@pytest.mark.parametrize("folder", FOLDERS_OF_A_MARKER)
def test_every_test_of_a_folder_that_is_left_out_has_its_marker(repository: Path, folder: str) -> None:
    """As `pytestmark` in each file, or by the folder's conftest.py."""
    files = [repository / "tests" / folder / "conftest.py", *(repository / "tests" / folder).rglob("test_*.py")]
    by_conftest, *marked = (
        bool(re.search(rf"^pytestmark = \[?pytest\.mark\.{folder}\b|\.add_marker\(.*\b{folder}\b", text, re.MULTILINE))
        for text in (file.read_text(encoding="utf-8") if file.exists() else "" for file in files)
    )
    assert marked and (by_conftest or all(marked))


def breaking(folder: Path, image: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BUF), "breaking", str(folder), "--against", str(image)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_protos_are_compatible_with_the_frozen_api(repository: Path) -> None:
    done = breaking(repository / "protos", repository / "protos" / "api.binpb")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_removed_field_is_found(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "protos", tmp_path / "protos")
    proto = tmp_path / "protos" / "csm" / "v1" / "tts.proto"
    text = proto.read_text(encoding="utf-8")
    without = re.sub(r"^ *int64 seed = \d+;\n|^ *optional \w+ seed = \d+;\n", "", text, flags=re.MULTILINE)
    assert without != text
    proto.write_text(without, encoding="utf-8")
    done = breaking(tmp_path / "protos", repository / "protos" / "api.binpb")
    assert done.returncode != 0
    assert '"seed"' in done.stdout


def test_every_copy_of_the_version_agrees_with_pyproject(repository: Path, version: str) -> None:
    tags = {
        image["newTag"]
        for overlay in ("gpu", "cpu-demo")
        for image in yaml.safe_load(
            (repository / f"deploy/kubernetes/overlays/{overlay}/kustomization.yaml").read_text(encoding="utf-8")
        )["images"]
    }
    newest = re.findall(r"^## \[([\d.]+)\]", (repository / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert tags == {newest} == {version}
    assert csm_client.__version__ == version
    assert f"As of version {version} " in (repository / "docs" / "status.md").read_text(encoding="utf-8")
    for name in ("package.json", "package-lock.json"):
        assert json.loads((repository / "clients/node" / name).read_text(encoding="utf-8"))["version"] == version


def test_deployment_page_tags_images_with_the_version(repository: Path, version: str) -> None:
    page = (repository / "docs" / "deploy.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ *version=\$\((.*)\)$", page, re.MULTILINE)
    assert subprocess.check_output(["sh", "-c", command], cwd=repository, text=True).strip() == version
