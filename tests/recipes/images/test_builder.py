"""Which images there are and how a build learns of pip's configuration. Nothing is built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recipes.images import catalog, pip_configuration
from recipes.images.container_tool import ContainerTool, ContainerToolError, podman_environment


def test_every_dockerfile_is_an_image_with_a_budget() -> None:
    assert {"gateway", "engine", "codec"} <= set(catalog.names())
    assert sorted(catalog.budgets()) == catalog.names()


def test_pip_configuration_goes_with_the_paths_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index" / "simple").mkdir(parents=True)
    file = tmp_path / "pip.conf"
    file.write_text(
        f"[global]\nextra-index-url =\n    file://{tmp_path}/index/simple\n    https://mirror.example.com/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "missing"))
    mounts = pip_configuration.mounts(tmp_path / "out")
    assert f"{tmp_path}/out/pip.conf:/etc/pip.conf:ro" in mounts
    assert f"{tmp_path}/index:{tmp_path}/index:ro" in mounts
    assert not any("missing" in mount for mount in mounts)
    written = (tmp_path / "out" / "pip.conf").read_text().splitlines()
    assert f"extra-index-url = file://{tmp_path}/index/simple https://mirror.example.com/simple" in written
    assert f"find-links = {tmp_path}/missing" in written


def test_an_unknown_image_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.images", "gatway"]
    done = subprocess.run(command, cwd=catalog.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "NAME is one of codec, engine, gateway" in done.stderr and "not gatway" in done.stderr


def test_a_command_that_fails_or_hangs_is_reported() -> None:
    shell = ContainerTool("podman", ("sh", "-c"), ("sh", "-c"), {})
    with pytest.raises(ContainerToolError, match="no space left"):
        shell.run("echo no space left >&2; exit 1")
    with pytest.raises(ContainerToolError, match="no end after 1 s\nno container runs"):
        shell.run("echo no container runs >&2; sleep 5", seconds=1)


def test_podman_keeps_its_storage_in_the_build_folder(tmp_path: Path) -> None:
    environment = podman_environment(tmp_path)
    assert f'graphroot = "{tmp_path}/storage/root"' in Path(environment["CONTAINERS_STORAGE_CONF"]).read_text()
    assert f'network_config_dir = "{tmp_path}/networks"' in Path(environment["CONTAINERS_CONF"]).read_text()
