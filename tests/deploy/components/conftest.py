"""Overlays with components in them, rendered as an operator would."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def render(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """The documents of an overlay with components. Raises ValueError with kubectl's error."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    made: dict[tuple[str, ...], list[Manifest]] = {}

    def rendered(overlay: str, *components: str) -> list[Manifest]:
        if (overlay, *components) not in made:
            folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
            shutil.copytree(repository / "deploy" / "kubernetes", folder)
            with (folder / "overlays" / overlay / "kustomization.yaml").open("a") as file:
                file.write("components:\n" + "".join(f"  - ../../components/{name}\n" for name in components))
            command = ["kubectl", "kustomize", str(folder / "overlays" / overlay)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ValueError(done.stderr)
            made[(overlay, *components)] = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
        return made[(overlay, *components)]

    return rendered
