"""A name server on loopback, so that a name can get and lose addresses while gateways run. It knows one name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

NAME = "engine.csm.test"
TTL_S = 30  # as of Kubernetes; gRPC's resolver keeps no answer


class Addresses(BaseResolver):  # type: ignore[misc]
    """The answers: the addresses that are in the list when it is asked."""

    def __init__(self) -> None:
        self.list: list[str] = []

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply()
        if request.q.qtype == QTYPE.A and str(request.q.qname).rstrip(".") == NAME:
            for address in self.list:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=TTL_S))
        return reply


@contextmanager
def name_server(port: int) -> Iterator[Addresses]:
    """Serves on 127.0.0.1. Raises OSError for a taken port."""
    addresses = Addresses()
    server = DNSServer(addresses, address="127.0.0.1", port=port, logger=DNSLogger(logf=lambda line: None))
    server.start_thread()
    try:
        yield addresses
    finally:
        server.stop()
        server.server.server_close()


def target(dns_port: int, port: int) -> str:
    """The gRPC target of the name's addresses at `port`, asked of this server."""
    return f"dns://127.0.0.1:{dns_port}/{NAME}:{port}"
