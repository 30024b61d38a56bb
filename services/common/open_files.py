"""How many connections a process has room for among the files that it may open."""

from __future__ import annotations

import resource

OTHER_FILES = 192  # than connections of callers: probes, metrics, other stages, databases, files


def most_connections() -> int | None:
    """So many that the other files have room too; None where the system sets no limit."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else max(1, files - OTHER_FILES)
