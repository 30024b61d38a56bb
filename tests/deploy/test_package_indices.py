"""Where a build gets its packages: the Dockerfiles name no registry, and two build arguments may.

The `pip install` lines are run by a shell with a pip that only prints its arguments. Nothing is installed.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

STAGES = ["gateway", "engine", "codec"]
MIRROR, TORCH_WHEELS = "https://mirror.example.com/simple", "https://torch.example.com/cpu"


def instructions(path: Path) -> list[str]:
    """Instructions without comments, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def pip_calls(path: Path, arguments: dict[str, str], folder: Path) -> list[str]:
    """What pip would be called with, one line for each call, with these build arguments."""
    (folder / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "python").write_text('#!/bin/sh\ncase "$1 $2" in "-m pip") shift 2; echo "$@" ;; esac\n')
    for program in ("pip", "python"):
        (folder / program).chmod(0o755)
    lines = [line.removeprefix("RUN ") for line in instructions(path) if re.match(r"RUN .*\bpip .*install", line)]
    parts = [part.strip() for line in lines for part in re.sub(r"--mount=\S+", "", line).split(" && ")]
    shell = "\n".join(part for part in parts if part.startswith(("index=", "python -m pip ")))
    environment = {"PATH": f"{folder}:/usr/bin:/bin", **arguments}
    done = subprocess.run(["sh", "-euc", shell], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(params=STAGES)
def dockerfile(request: pytest.FixtureRequest, repository: Path) -> Path:
    return repository / "docker" / f"{request.param}.Dockerfile"


def test_dockerfiles_name_no_address(dockerfile: Path) -> None:
    assert re.findall(r"\w+://|pypi\.org|download\.pytorch", dockerfile.read_text(encoding="utf-8")) == []


def test_pip_decides_by_default(dockerfile: Path, tmp_path: Path) -> None:
    calls = pip_calls(dockerfile, {"PIP_INDEX": "", "TORCH_INDEX": ""}, tmp_path)
    assert len(calls) == (2 if dockerfile.name.startswith("gateway") else 3)
    assert [call for call in calls if "index" in call] == []


def test_one_argument_names_the_index_of_everything(dockerfile: Path, tmp_path: Path) -> None:
    calls = pip_calls(dockerfile, {"PIP_INDEX": MIRROR, "TORCH_INDEX": ""}, tmp_path)
    assert all(f"--index-url {MIRROR}" in call for call in calls)


def test_the_other_one_names_that_of_torch_alone(dockerfile: Path, tmp_path: Path) -> None:
    calls = pip_calls(dockerfile, {"PIP_INDEX": MIRROR, "TORCH_INDEX": TORCH_WHEELS}, tmp_path)
    for call in calls:
        assert (f"--index-url {TORCH_WHEELS}" if "torch==" in call else f"--index-url {MIRROR}") in call


def test_arguments_are_empty_by_default_and_reach_every_stage_that_uses_them(dockerfile: Path) -> None:
    used: set[str] = set()
    for block in re.split(r"^FROM .*$", "\n".join(instructions(dockerfile)), flags=re.MULTILINE)[1:]:
        names = set(re.findall(r"\$\{((?:PIP|TORCH)_INDEX)\b", block))
        assert names <= set(re.findall(r"^ARG (\w+)$", block, re.MULTILINE))
        used |= names
    defaults = re.findall(r"^ARG (\w+_INDEX)=(.*)$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(defaults) == dict.fromkeys(used, "")


def test_compose_hands_on_the_arguments_that_a_dockerfile_has(dockerfile: Path, repository: Path) -> None:
    compose: dict[str, Any] = yaml.safe_load((repository / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    name = dockerfile.name.partition(".")[0]
    built = [item["build"]["args"] for item in compose["services"].values() if name in item["build"]["dockerfile"]]
    assert built
    for args in built:
        assert args == re.findall(r"^ARG (\w+_INDEX)=", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_deployment_page_explains_the_arguments(repository: Path) -> None:
    page = (repository / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+_INDEX)` \|", page, re.MULTILINE) == ["PIP_INDEX", "TORCH_INDEX"]
