"""Kernels in numba's cache, as later starts find them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[4]

# A process of its own, as each start is one.
_START = """
import sys
import numpy as np
from csm_codec.watermark.cpu.frame_kernels import NUM_POINTS, input_kernels
for channels, narrow in eval(sys.argv[1]):
    inputs = np.zeros(NUM_POINTS * channels, np.uint16 if narrow else np.float32)
    input_kernels(1, channels, narrow)[1](
        np.ones((8, channels), np.float32), np.zeros((8, channels), np.float32), inputs
    )
    assert inputs[channels : 2 * channels].all() and not inputs[: channels].any()
"""


def _start(cache: Path, *more: tuple[int, bool]) -> None:
    """more: kernels, by channels and whether they are for bfloat16; a set takes a second to compile."""
    command = [sys.executable, "-c", _START, repr([(1, False), *more])]
    subprocess.run(command, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, check=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numba")
    _start(folder)
    return folder


@pytest.mark.slow
def test_no_two_kernels_share_files_that_processes_could_mix_up(tmp_path: Path) -> None:
    _start(tmp_path, (2, False), (2, True))
    kernels = Counter(path.name.rsplit(".", 2)[0] for path in tmp_path.glob("*/*.nbc"))
    assert len(kernels) == 7 and set(kernels.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_cache_cut_off_by_a_crash_does_not_stop_the_start(cache: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    cut_off = sorted(tmp_path.glob(f"*/*.{kind}"))[0]
    cut_off.write_bytes(b"")
    _start(tmp_path)


_IN_AN_IMAGE = """
import sys
from pathlib import Path
import llvmlite.binding, numba
llvmlite.binding.get_host_cpu_name = lambda: sys.argv[1]  # another processor of the same level
from csm_codec import compiled
from csm_codec.watermark.cpu.frame_kernels import fill_message, input_kernels
kernels = [fill_message, *(input_kernels(1, 1, False) if "more" in sys.argv else ())]
print(numba.config.CPU_NAME, sum(len(kernel.stats.cache_hits) for kernel in kernels), len(kernels))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that holds a kernel compiled, as an image holds all."""
    folder = tmp_path_factory.mktemp("image")
    for name in ("csm_codec", "csm_bundle"):
        shutil.copytree(_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    _started(folder, folder / "csm_codec" / "__kernels__", "the-machine-that-builds")
    return folder


def _started(image: Path, cache: Path, *arguments: str) -> list[str]:
    """arguments: the processor, and whether there are more kernels, which take seconds to compile."""
    environment = {**os.environ, "PYTHONPATH": str(image), "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", _IN_AN_IMAGE, *arguments]
    return subprocess.run(
        command, env=environment, cwd=image, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.slow
def test_kernels_of_an_image_are_read_on_another_processor(image: Path, tmp_path: Path) -> None:
    _started(image, image / "csm_codec" / "__kernels__", "the-machine-that-builds", "more")
    name, hits, kernels = _started(image, tmp_path / "numba", "another-machine", "more")
    if name == "None":
        pytest.skip("this processor is not at the level that kernels are compiled for")
    assert hits == kernels == "3"


def test_a_cache_folder_that_is_there_gets_the_kernels_too(image: Path, tmp_path: Path) -> None:
    assert len(_started(image, tmp_path, "another-machine")) == 3
    built = sorted(path.name for path in (image / "csm_codec" / "__kernels__").rglob("*.nbi"))
    assert built and sorted(path.name for path in tmp_path.rglob("*.nbi")) == built
