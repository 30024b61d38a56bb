"""What docker/prune.py removes from an image's packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from recipes.images.catalog import ROOT


def prune(environment: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "docker" / "prune.py"), str(environment)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_tests_and_headers_go_and_the_rest_stays(tmp_path: Path) -> None:
    stays = [
        "numpy/core.py",
        "torch/bin/torch_shm_manager",
        "torch/testing/tools.py",
        "package/test",
        "package/tests.py",
    ]
    goes = [
        "numpy/tests/test_core.py",
        "numpy/lib/test/a.py",
        "torch/bin/protoc",
        "torch/include/a/b.h",
        "torch/test/x",
    ]
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in (*stays, *goes):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("x" * 1000)
    done = prune(tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()) == sorted(stays)


def test_a_folder_without_packages_is_an_error(tmp_path: Path) -> None:
    done = prune(tmp_path)
    assert done.returncode == 1 and "expected one site-packages folder, found 0" in done.stderr
