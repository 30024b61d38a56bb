"""Ports that no other program gets: for programs that cannot pick one and report it, and for servers that end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Different free ports, which the system gives to nobody else meanwhile.

    They are bound, and nobody listens. A server that allows its address to be used again, as nearly all do, can listen
    there nevertheless, but no second one. Behind it the port stays free: callers that still look for a server that has
    ended do not reach one of another test.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("", 0))
        yield [held.getsockname()[1] for held in sockets]
