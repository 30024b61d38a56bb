"""Where a build gets its packages: Dockerfiles and Makefile name no registry. Two build arguments, or a variable, may.

The `pip install` lines are run by a shell with a pip that only prints its arguments, or printed by make. Nothing is
installed.
"""

from __future__ import annotations

import os
import re
import shlex
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


def test_the_other_argument_names_the_index_of_torch_alone(dockerfile: Path, tmp_path: Path) -> None:
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


def test_the_page_of_images_explains_the_arguments(repository: Path) -> None:
    page = (repository / "docs" / "images.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+_INDEX)` \|", page, re.MULTILINE) == ["PIP_INDEX", "TORCH_INDEX"]


def torch_calls(repository: Path, folder: Path, *variables: str, **environment: str) -> list[str]:
    """What `make say` would install torch with, where nothing is installed yet."""
    command = ["make", "--dry-run", "say", f"VENV={folder}/venv", *variables]
    clean = {name: value for name, value in os.environ.items() if name not in ("TORCH_INDEX", "MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(
        command, cwd=repository, env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return [
        shlex.join(shlex.split(line)) for line in done.stdout.splitlines() if re.search(r"/pip install.* torch==", line)
    ]


def test_make_installs_torch_from_pip_s_index_by_default(repository: Path, tmp_path: Path) -> None:
    (call,) = torch_calls(repository, tmp_path)
    assert call.endswith("/venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0")


def test_make_takes_torch_and_nothing_else_from_the_index_that_is_named(repository: Path, tmp_path: Path) -> None:
    for named in (torch_calls(repository, tmp_path, f"TORCH_INDEX={TORCH_WHEELS}"),
                  torch_calls(repository, tmp_path, TORCH_INDEX=TORCH_WHEELS)):  # fmt: skip
        (call,) = named
        assert call.endswith(f" --index-url {TORCH_WHEELS} torch==2.13.0")


def test_the_readme_says_how_to_do_without_cuda(repository: Path) -> None:
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in (repository / "README.md").read_text(encoding="utf-8")
