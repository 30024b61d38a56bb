"""Writes the table of packages in THIRD_PARTY_NOTICES.md from the lock and from what pip-licenses reads.

Usage: python requirements/notices.py [--check]. It reads the packages that are installed beside the interpreter, so
install the lock first (`make notices` does). --check writes nothing and exits with 1 if the table is out of date.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parent
NOTICES = REQUIREMENTS.parent / "THIRD_PARTY_NOTICES.md"
MARKERS = ("<!-- packages -->\n", "<!-- end of packages -->\n")
SETS = (
    "gateway",
    "http",
    "engine",
    "codec",
    "client",
)  # what an image or the client installs; everything else is "dev"
LONGEST_LICENSE = 80  # characters; past that a package's metadata holds the licence's text in place of its name

# What the metadata of these packages does not name; read from the licence files in their wheels.
NAMED_BY_HAND = {
    "locate": "MIT",
    "tiktoken": "MIT",
    "torchao": "BSD-3-Clause",
    "torchtune": "BSD-3-Clause",
}


class MissingLicenseError(Exception):
    """A package of the lock is not installed, or its licence has no name."""


def locked(name: str) -> dict[str, str]:
    """Package -> version, as requirements/NAME.txt pins them."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.partition(" ;")[0].partition("==") for line in lines)
    return {canonicalize_name(package): version for package, _, version in pins if version}


def installed_licenses() -> dict[str, str]:
    """Package -> name of its licence, as pip-licenses reads the packages of this environment."""
    program = Path(sys.executable).with_name("pip-licenses")
    command = [str(program), "--from=mixed", "--format=json", "--with-system"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {canonicalize_name(row["Name"]): row["License"] for row in rows}


def license_of(package: str, licenses: dict[str, str]) -> str:
    """The licence's name; MissingLicenseError if nobody has written it down."""
    name = NAMED_BY_HAND.get(package) or licenses.get(package, "UNKNOWN")
    if name == "UNKNOWN" or len(name) > LONGEST_LICENSE or "\n" in name:
        raise MissingLicenseError(
            f"{package}: no licence name; install the lock, or add the package to NAMED_BY_HAND in {__file__}"
        )
    return name


def table() -> str:
    """The Markdown table: package, version, licence, and which sets install it."""
    licenses = installed_licenses()
    sets = {name: locked(name) for name in SETS}
    lines = ["| package | version | licence | installed by |", "|---|---|---|---|"]
    for package, version in sorted(locked("dev").items()):
        users = [name for name in SETS if package in sets[name]] or ["dev"]
        lines.append(f"| {package} | {version} | {license_of(package, licenses)} | {', '.join(users)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with a new table between the two markers."""
    before, _, rest = page.partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    return "".join((before, MARKERS[0], table(), MARKERS[1], after))


def main() -> int:
    page = NOTICES.read_text(encoding="utf-8")
    made = with_table(page)
    if "--check" in sys.argv[1:]:
        if made != page:
            print(f"{NOTICES.name} is out of date; run `make notices`", file=sys.stderr)
        return int(made != page)
    NOTICES.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
