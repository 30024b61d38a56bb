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


_KERNEL = {
    "of_test.py": """
import numpy as np
from numba import float32, types
from csm_bundle.runtime.compiled import compiled, exp
from part import part
from within import within

@compiled(types.void(float32[::1]))
def kernel(x):
    x[0] = within(part(exp(x[0])))

x = np.zeros(1, np.float32)
kernel(x)
print(x[0], len(kernel.stats.cache_hits))
""",
    "part.py": """
from numba import njit
from factor import FACTOR

@njit
def part(x):
    return x * FACTOR
""",
    "within.py": """
from numba.extending import intrinsic

@intrinsic
def within(typing_context, x):
    return x(x), lambda context, builder, signature, arguments: arguments[0]
""",
    "factor.py": "FACTOR = 1",
}


@pytest.mark.parametrize(
    ("file", "old", "new", "result"),
    [
        ("csm_bundle/runtime/compiled.py", "    return result * ", "    return _f(3) * result * ", "3.0"),
        ("part.py", "return x * FACTOR", "return x * FACTOR + 1", "2.0"),
        ("within.py", "arguments[0]", "builder.fadd(arguments[0], arguments[0])", "2.0"),
        ("factor.py", "1", "10", "10.0"),
    ],
)
def test_kernels_of_another_version_of_what_they_share_are_not_read(
    file: str, old: str, new: str, result: str, tmp_path: Path
) -> None:
    """numba compares only the file of the kernel itself. Loaded again, the module is compiled no more."""
    package = Path(compiled.__file__).parents[1]
    shutil.copytree(package, tmp_path / "csm_bundle", ignore=shutil.ignore_patterns("__pycache__"))
    for name, source in _KERNEL.items():
        (tmp_path / name).write_text(source)

    def printed(program: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()

    assert printed("import importlib, of_test; importlib.reload(of_test)") == ["1.0", "0", "1.0", "1"]
    changed = tmp_path / file
    changed.write_text(changed.read_text().replace(old, new))
    assert printed("import of_test") == [result, "0"]
