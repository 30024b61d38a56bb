"""The compiled kernels on processors of other makers and years, emulated by QEMU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from functools import cache

import pytest

_EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # emulation takes 5 minutes on a slow machine
    pytest.mark.skipif(
        _EMULATOR is None or platform.machine() != "x86_64", reason="needs QEMU (qemu-user-static) on x86-64"
    ),
]


def digest(*emulator: str) -> str:
    """Of what the built-in voice computes."""
    command = [*emulator, sys.executable, "-m", "tests.support.kernels.bits_of_the_voice"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@cache
def native_digest() -> str:
    return digest()


@pytest.mark.parametrize("processor", ["Haswell", "Skylake-Client", "EPYC"])
def test_all_processors_of_the_level_compute_the_same_bits(processor: str) -> None:
    assert _EMULATOR is not None
    assert len(native_digest()) == 64
    assert digest(_EMULATOR, "-cpu", processor) == native_digest()
