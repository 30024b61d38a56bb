"""A name server on loopback, whose name gets and loses addresses while programs run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer


class NameServer(BaseResolver):  # type: ignore[misc]
    """Answers every question with the current `addresses`."""

    def __init__(self, addresses: list[str], ttl_s: int) -> None:
        self.addresses = addresses
        self.port = 0
        self._ttl_s = ttl_s

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply()
        if request.q.qtype == QTYPE.A:
            for address in self.addresses:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=self._ttl_s))
        return reply

    def target(self, port: int) -> str:
        """The gRPC target that asks this server for the addresses, with `port` at each."""
        return f"dns://127.0.0.1:{self.port}/replicas.csm.test:{port}"


@contextmanager
def name_server(addresses: list[str], ttl_s: int = 0) -> Iterator[NameServer]:
    """Serves on a free port of 127.0.0.1."""
    names = NameServer(addresses, ttl_s)
    server = DNSServer(names, address="127.0.0.1", port=0, logger=DNSLogger(logf=lambda line: None))
    names.port = server.server.server_address[1]
    server.start_thread()
    try:
        yield names
    finally:
        server.stop()
        server.server.server_close()
