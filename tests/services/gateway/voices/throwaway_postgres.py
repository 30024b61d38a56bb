"""A throw-away PostgreSQL server from Debian's programs: a new cluster in a folder, with a socket and no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MISSING = "PostgreSQL's server is not installed (on Debian: apt-get install postgresql)"
_NON_ROOT = "postgres"  # initdb refuses to run as root


def server_programs() -> Path | None:
    """The folder of initdb and postgres; None when they are not installed."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if found is None else [Path(found).parent]
    return folders[-1] if folders and (folders[-1] / "postgres").exists() else None


@contextmanager
def running_postgres(programs: Path, folder: Path) -> Iterator[str]:
    """Yields the URL of its database. folder: empty, with a short path, as a socket's path may have 107 bytes."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam(_NON_ROOT)
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["runuser", "-u", _NON_ROOT, "--"]
    data = folder / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "csm", "--no-sync", "-E", "UTF8"]
    subprocess.run([*prefix, *initdb], cwd=folder, check=True, capture_output=True, timeout=100)
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    control = [*prefix, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
    log = str(folder / "log")
    subprocess.run([*control, "-o", options, "-l", log, "start"], cwd=folder, check=True, timeout=100)
    try:
        yield f"postgresql://csm@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], cwd=folder, check=True, timeout=100)
