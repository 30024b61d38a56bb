"""Which wheels the machine needs, and how much room they may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MOST_IN_ALL = 64 * 2**20  # bytes of the project's files and the wheels that the machine takes
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Wheels:
    """A list of wheels, the folder for them, and their most bytes; the project's files have the rest."""

    file: Path
    folder: Path
    most_bytes: int

    @property
    def names(self) -> list[str]:
        """ "name==version" of each."""
        lines = self.file.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


WHEELS = Wheels(_HERE / "others.txt", Path(".whl"), 12_000_000)
SERVICE_WHEELS = Wheels(_HERE / "service.txt", Path(".whl-service"), 60_000_000)
