"""The lines that gRPC's core writes to standard error by itself. It reads the setting once, when it is imported."""

from __future__ import annotations

import os


def leave_out_grpc_news() -> None:
    """Leaves only errors, unless the environment says otherwise.

    The core tells of each failed handshake and of connections that are closed. It waits until standard error takes the
    line: where nobody reads, it stopped, and the process did not end.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
