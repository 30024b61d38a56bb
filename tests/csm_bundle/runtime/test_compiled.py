"""For which processors kernels are compiled, and the lock under which they are."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from csm_bundle.runtime import compiled

V3 = dict.fromkeys(compiled._NEEDED, True)


@pytest.mark.parametrize(
    ("machine", "features", "named", "target"),
    [
        ("x86_64", V3, None, ("x86-64-v3", "")),
        ("x86_64", {**V3, "avx2": False}, None, (None, None)),  # an old processor: the one at hand
        ("aarch64", {"sve": True}, None, ("generic", "")),  # Linux: all Arm machines run the same code
        ("arm64", {}, None, ("generic", "")),  # macOS
        ("riscv64", {}, None, (None, None)),
        ("aarch64", {}, "neoverse-v2", ("neoverse-v2", None)),  # NUMBA_CPU_NAME
    ],
)
def test_the_level_is_that_of_the_kind_of_processor(
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    features: dict[str, bool],
    named: str | None,
    target: tuple[str | None, str | None],
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    config = SimpleNamespace(CPU_NAME=named, CPU_FEATURES=None)
    binding = SimpleNamespace(get_host_cpu_features=lambda: features)
    monkeypatch.setattr(compiled, "numba", SimpleNamespace(config=config))
    monkeypatch.setattr(compiled, "llvmlite", SimpleNamespace(binding=binding))
    compiled._choose_processor()
    assert (config.CPU_NAME, config.CPU_FEATURES) == target


def test_a_cache_in_a_file_system_without_locks_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="not implemented"):
        compiled._lock(str(tmp_path), flock).acquire()


_KERNEL = """
import numpy as np
from numba import float32, types
from csm_bundle.runtime.compiled import compiled, exp

@compiled(types.void(float32[::1]))
def kernel(x):
    x[0] = exp(x[0])

x = np.zeros(1, np.float32)
kernel(x)
print(x[0], len(kernel.stats.cache_hits))
"""


def test_kernels_of_another_version_of_what_they_share_are_not_read(tmp_path: Path) -> None:
    """numba compares only the file of the kernel itself. Loaded again, the module is compiled no more."""
    package = tmp_path / "csm_bundle"
    shutil.copytree(Path(compiled.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "of_test.py").write_text(_KERNEL)

    def printed(program: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()

    assert printed("import importlib, of_test; importlib.reload(of_test)") == ["1.0", "0", "1.0", "1"]
    source = package / "runtime" / "compiled.py"
    source.write_text(source.read_text().replace("    return result * ", "    return _f(3) * result * "))
    assert printed("import of_test") == ["3.0", "0"]
