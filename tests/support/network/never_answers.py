"""Addresses on loopback that never answer, as those of a node that is gone, or of a process that is frozen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def never_connects(address: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A listening socket whose queue is full: it drops what would open a connection."""
    with socket.socket() as listener:
        listener.bind((address, port))
        listener.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield f"{address}:{listener.getsockname()[1]}"
        for caller in callers:
            caller.close()


@contextmanager
def never_speaks() -> Iterator[str]:
    """A listening socket whose connections the system opens, and nobody takes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
