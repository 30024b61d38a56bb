"""The arrows of the architecture: who imports whom, read from the sources, and what the light processes load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ImportsReader = Callable[[Path], Iterator[str]]

# Folder -> top-level packages, or packages of ours, that nothing in it may import at its module's top or anywhere.
FORBIDDEN = {
    "csm_engine": {"grpc", "asyncio", "csm", "services", "csm_client", "csm_codec", "csm_text", "tests"},
    "csm_codec": {"grpc", "asyncio", "csm", "services", "csm_client", "csm_engine", "csm_text", "tests"},
    "csm_bundle": {"grpc", "asyncio", "csm", "services", "csm_client", "csm_engine", "csm_codec", "csm_text", "tests"},
    "csm_text": {"torch", "grpc", "asyncio", "csm", "services", "csm_client", "csm_engine", "csm_codec", "csm_bundle"},
    "services/common": {"torch", "numpy", "csm_client", "services.gateway", "services.engine", "services.codec"},
    "services/gateway": {"torch", "numpy", "csm_client", "services.engine", "services.codec", "services.all_in_one"},
    "services/engine": {"csm_client", "services.gateway", "services.codec", "services.all_in_one"},
    "services/codec": {"csm_client", "services.gateway", "services.engine", "services.all_in_one"},
    "clients/python": {"torch", "numpy", "csm_engine", "csm_codec", "csm_bundle", "services"},
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_follow_the_arrows(imported_names: ImportsReader, folder: str) -> None:
    assert sources(folder), f"{folder} holds no sources"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in imported_names(path)
        if any(name == forbidden or name.startswith(f"{forbidden}.") for forbidden in FORBIDDEN[folder])
    ]
    assert wrong == []


def test_the_rule_would_catch_a_wrong_import(imported_names: ImportsReader, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from services.engine import stage\n    import torch.nn\n")
    names = set(imported_names(source))
    assert {"services.engine", "services.engine.stage", "torch.nn"} <= names


@pytest.mark.parametrize(
    "module",
    [
        "services.gateway.__main__",
        "services.gateway.stage",
        "csm_client",
        "csm_client.command.cli",
        "services.engine.settings",
        "services.codec.settings",
        "services.all_in_one.settings",
    ],
)
def test_light_processes_load_neither_torch_nor_numpy(module: str) -> None:
    program = f"import {module}, sys; print(sorted({{'torch', 'numpy'}} & set(sys.modules)))"
    environment = {"PYTHONPATH": ":".join(str(ROOT / path) for path in (".", "gen/python", "clients/python"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
