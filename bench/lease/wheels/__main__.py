"""Fetches the wheels that a GPU machine without network needs, and checks their size.

    python3 -m bench.lease.wheels            # those of others.txt into .whl/
    python3 -m bench.lease.wheels service    # those of service.txt into .whl-service/, for the part `service`

For Python 3.12 on x86-64 Linux. The machine takes 64 MiB in all: the project's files and the wheels. The wheels of the
service leave no room for the built-in voice and the tests; bench/README.md says how to leave these out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from bench.lease.wheels.installed import check
from bench.lease.wheels.lists import SERVICE_WHEELS, WHEELS, Wheels

_GLIBC = (28, 27, 24, 17)  # of manylinux; pip takes each for itself alone
_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC), "manylinux2014_x86_64", "manylinux1_x86_64", "any")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m bench.lease.wheels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", nargs="?", choices=("service",), help="instead of those that all other parts need")
    wheels = SERVICE_WHEELS if parser.parse_args().kind else WHEELS
    fetch(wheels)
    size = check(wheels.folder, len(wheels.names), wheels.most_bytes)
    print(f"{len(wheels.names)} wheels, {size / 1e6:.1f} MB of {wheels.most_bytes / 1e6:.1f}, in {wheels.folder}/")
    return 0


def fetch(wheels: Wheels) -> None:
    """Raises: subprocess.CalledProcessError; pip has said what is missing."""
    options = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--python-version", "3.12", "--implementation", "cp", *options, "--dest", str(wheels.folder),
            "--requirement", str(wheels.file),
        ],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
