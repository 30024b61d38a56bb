"""Kernels in numba's cache, as later starts find them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

# A process of its own, as each start is one.
_START = """
import numpy as np
from csm_codec.watermark.cpu.frame_kernels import NUM_POINTS, input_kernels
for channels, narrow in ((1, False), (2, False), (2, True)):
    inputs = np.zeros(NUM_POINTS * channels, np.uint16 if narrow else np.float32)
    input_kernels(1, channels, narrow)[1](
        np.ones((8, channels), np.float32), np.zeros((8, channels), np.float32), inputs
    )
    assert inputs[channels : 2 * channels].all() and not inputs[: channels].any()
"""


def _start(cache: Path) -> None:
    subprocess.run([sys.executable, "-c", _START], env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, check=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numba")
    _start(folder)
    return folder


def test_no_two_kernels_share_files_that_processes_could_mix_up(cache: Path) -> None:
    kernels = Counter(path.name.rsplit(".", 2)[0] for path in cache.glob("*/*.nbc"))
    assert len(kernels) == 7 and set(kernels.values()) == {1}


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_cache_cut_off_by_a_crash_does_not_stop_the_start(cache: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    cut_off = sorted(tmp_path.glob(f"*/*.{kind}"))[0]
    cut_off.write_bytes(b"")
    _start(tmp_path)
