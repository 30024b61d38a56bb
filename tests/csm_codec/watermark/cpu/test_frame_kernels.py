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


_AT_ONCE = """
import sys
import numba, numpy
from csm_bundle.runtime.compiled import compiled
print("ready", flush=True)
sys.stdin.readline()
@compiled(numba.float32(numba.float32[::1]))
def total(values):
    sum = numpy.float32(0)
    for value in values:
        sum += numpy.tanh(value)
    return sum
print(sum(total.stats.cache_misses.values()), flush=True)
"""


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_processes_that_start_together_compile_a_kernel_once(tmp_path: Path, variable: str) -> None:
    """XDG_CACHE_HOME: numba's choice, where a file takes the place of the folder beside the program."""
    program = tmp_path / "program.py"  # numba caches what comes from files
    program.write_text(_AT_ONCE)
    (tmp_path / "__pycache__").touch()
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "NUMBA_CACHE_DIR": "", variable: str(tmp_path / "cache")}

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, str(program)]
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    with start() as one, start() as other:
        for process in (one, other):
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
        compiled = [int(process.communicate()[0]) for process in (one, other)]
    assert sorted(compiled) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_cache_cut_off_by_a_crash_does_not_stop_the_start(cache: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    cut_off = sorted(tmp_path.glob(f"*/*.{kind}"))[0]
    cut_off.write_bytes(b"")
    _start(tmp_path)


_KERNELS = Path("csm_bundle", "runtime", "__kernels__")
_IN_AN_IMAGE = """
import sys
import llvmlite.binding, numba
llvmlite.binding.get_host_cpu_name = lambda: sys.argv[1]  # another processor of the same level
from csm_bundle.runtime import compiled
from csm_codec.watermark.cpu.frame_kernels import fill_message, input_kernels
kernels = [fill_message, *input_kernels(1, 1, False)]
print(numba.config.CPU_NAME, sum(len(kernel.stats.cache_hits) for kernel in kernels), len(kernels))
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A copy of the package, which has a folder for kernels, as an image does."""
    for name in ("csm_codec", "csm_bundle"):
        shutil.copytree(_ROOT / name, tmp_path / "image" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "image" / _KERNELS).mkdir()
    return tmp_path / "image"


def _started(image: Path, cache: Path, program: str, *arguments: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(image), "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, env=environment, cwd=image, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.slow
def test_kernels_of_an_image_are_read_on_another_processor(image: Path, tmp_path: Path) -> None:
    _started(image, image / _KERNELS, _IN_AN_IMAGE, "the-machine-that-builds")
    name, hits, kernels = _started(image, tmp_path / "numba", _IN_AN_IMAGE, "another-machine")
    if name == "None":
        pytest.skip("this processor is not at the level that kernels are compiled for")
    assert hits == kernels == "3"


def test_a_cache_folder_that_is_there_gets_the_kernels_of_an_image_too(image: Path, tmp_path: Path) -> None:
    folders = (image / _KERNELS / "cpu", tmp_path / "numba" / "cpu")
    for folder, kernel in zip(folders, ("built.nbi", "compiled.nbi"), strict=True):
        folder.mkdir(parents=True)
        (folder / kernel).touch()
    _started(image, tmp_path / "numba", "import csm_bundle.runtime.compiled")
    assert sorted(path.name for path in folders[1].iterdir()) == ["built.nbi", "compiled.nbi"]


def test_a_start_keeps_what_the_last_one_added_to_the_kernels_of_an_image(image: Path, tmp_path: Path) -> None:
    """A processor below the level adds its own to the index. Without them every start would compile them again."""
    built, index = image / _KERNELS / "cpu.nbi", tmp_path / "numba" / "cpu.nbi"
    built.write_text("built")
    _started(image, index.parent, "import csm_bundle.runtime.compiled")
    assert index.read_text() == "built"
    index.write_text("built, compiled")
    _started(image, index.parent, "import csm_bundle.runtime.compiled")
    assert index.read_text() == "built, compiled"
    built.write_text("a newer image")
    os.utime(built, (index.stat().st_mtime + 1,) * 2)
    _started(image, index.parent, "import csm_bundle.runtime.compiled")
    assert [path.read_text() for path in index.parent.iterdir()] == ["a newer image"]
