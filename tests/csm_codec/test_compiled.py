"""For which processors kernels are compiled, and by which of the processes that start together."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from csm_codec import compiled
from tests.support.clock import Clock

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


# A process of its own: locks of one process do not exclude each other.
_HOLDER = """
import fcntl, sys, zlib
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX, 1, zlib.crc32(sys.argv[2].encode()))
print("locked", flush=True)
sys.stdin.read()
"""


def kernel() -> None:
    """Compiled by nothing here."""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that compiles `kernel`, until its input ends."""
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / "kernels.lock"), kernel.__qualname__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        yield process
        process.kill()


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process has done: waited, compiled."""
    done: list[str] = []

    def njit(signature: object, **options: object) -> object:
        return lambda function: done.append("compiled")

    monkeypatch.setattr(compiled, "njit", njit)
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    return done


def test_a_kernel_that_another_process_compiles_is_waited_for(
    holder: subprocess.Popen[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        done.append("waited")
        holder.communicate()  # which ends it

    monkeypatch.setattr(time, "sleep", sleep)
    compiled.compiled("of another kernel", variant="_2")(lambda: None)
    compiled.compiled("of this kernel")(kernel)
    assert done == ["compiled", "waited", "compiled"]


def test_a_process_that_never_ends_compiling_stops_no_other(
    clock: Clock, holder: subprocess.Popen[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.put_forward(compiled._PATIENCE_S))
    compiled.compiled("of this kernel")(kernel)
    assert done == ["compiled"]


def test_a_folder_that_cannot_be_written_needs_no_lock(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "a file"))
    compiled.compiled("of this kernel")(kernel)
    assert done == ["compiled"]
