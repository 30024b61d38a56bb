"""The wheels that a GPU machine without network needs: fetched beforehand, installed on that machine.

    python3 -m bench.lease.wheels            # fetches those of wheels.txt into .whl/ and checks their size

For Python 3.12 on x86-64 Linux. Fetching needs the package index. Installing needs no network. The machine takes
64 MiB in all: the project's files and the wheels.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).parent / "wheels.txt"
FOLDER = Path(".whl")
MOST_IN_ALL = 64 * 2**20  # of the project's files and the wheels
MOST_BYTES = 12_500_000  # of the wheels; the project's files have the rest
_GLIBC = (28, 27, 24, 17)  # of manylinux; pip takes each for itself alone
_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC), "manylinux2014_x86_64", "manylinux1_x86_64", "any")


def main() -> int:
    fetch(FOLDER)
    names = wanted(LIST.read_text(encoding="utf-8"))
    size = check(FOLDER, len(names))
    print(f"{len(names)} wheels, {size / 1e6:.1f} MB of at most {MOST_BYTES / 1e6:.0f}, in {FOLDER}/")
    return 0


def wanted(text: str) -> list[str]:
    """ "name==version" of each line that is no comment."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def fetch(folder: Path) -> None:
    """Raises: subprocess.CalledProcessError; pip has said what is missing."""
    options = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--python-version", "3.12", "--implementation", "cp", *options, "--dest", str(folder),
            "--requirement", str(LIST),
        ],
        check=True,
    )  # fmt: skip


def check(folder: Path, count: int, most_bytes: int = MOST_BYTES) -> int:
    """Returns their bytes. Raises: RuntimeError if there are too many, or another number of wheels."""
    files = sorted(folder.glob("*.whl"))
    size = sum(file.stat().st_size for file in files)
    if len(files) != count:
        raise RuntimeError(f"{folder} holds {len(files)} wheels; {count} are wanted, no more and no fewer")
    if size > most_bytes:
        raise RuntimeError(f"the wheels in {folder} take {size} bytes; at most {most_bytes} are allowed")
    return size


def install(folder: Path, site: Path) -> None:
    """Installs every wheel of a folder into another, without network; nothing if that is there already. That is there
    once all are installed: a call that was ended leaves none behind for the next one to take.

    Raises: subprocess.CalledProcessError; pip has said what is wrong.
    """
    if site.is_dir():
        return
    unfinished = site.with_name(f"{site.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(unfinished))
    wheels = (str(file) for file in sorted(folder.glob("*.whl")))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
    unfinished.rename(site)


if __name__ == "__main__":
    sys.exit(main())
