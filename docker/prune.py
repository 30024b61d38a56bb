"""Removes from an image's packages what no stage reads: tests, C++ headers and test programs.

Usage: python prune.py ENVIRONMENT. It prints the megabytes (10^6 bytes) that each rule removed. Bytecode stays: on a
read-only root file system a stage would compile it again at every start.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Paths under site-packages that go (globs), and among them those that stay, because their package reads them.
REMOVED = {
    "tests inside packages": ["**/tests/", "**/test/"],
    "torch's programs": ["torch/bin/*"],  # tests in C++ and protoc
    "torch's headers": ["torch/include", "torch/share/cmake"],  # for extensions in C++, which no stage compiles
}
KEPT = {"torch/bin/torch_shm_manager"}  # torch does not start without it


def matches(packages: Path, patterns: list[str]) -> Iterator[Path]:
    """The files and folders that a rule removes; a folder inside one that went is skipped."""
    for pattern in patterns:
        for path in sorted(packages.glob(pattern)):
            if path.exists() and str(path.relative_to(packages)) not in KEPT:
                yield path


def size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder."""
    return sum(file.lstat().st_size for file in ([path] if not path.is_dir() else path.rglob("*")) if not file.is_dir())


def prune(packages: Path) -> dict[str, int]:
    """Rule -> bytes that it removed under `packages`, a site-packages folder."""
    removed = dict.fromkeys(REMOVED, 0)
    for rule, patterns in REMOVED.items():
        for path in matches(packages, patterns):
            removed[rule] += size(path)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return removed


def main() -> int:
    folders = sorted(Path(sys.argv[1]).glob("lib/python3*/site-packages"))
    if len(folders) != 1:
        print(f"{sys.argv[1]}: expected one site-packages folder, found {len(folders)}", file=sys.stderr)
        return 1
    for rule, count in prune(folders[0]).items():
        print(f"{count / 1e6:8.1f} MB  {rule}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
