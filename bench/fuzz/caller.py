"""Makes calls and connections, and counts how they ended. It draws no examples."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc

from bench.fuzz.methods import Method
from bench.fuzz.raw_calls import raw_call, status_in
from bench.fuzz.strategies import Call, RawCall

AT_ONCE = 16
MOST_FINDINGS = 50
SOCKET_S = 0.5  # how long it waits for a silent peer
ANSWER_S = 2.0  # how long a call by hand waits for its answer

NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


@dataclass
class Tally:
    """Counts of how calls ended."""

    codes: Counter[str] = field(default_factory=Counter)
    by_port: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)  # calls with a status that callers must never get
    num_findings: int = 0


class Caller:
    """Makes several calls at once, over one connection to each port."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.tally = Tally()
        self.ports = ports
        # The client may send larger messages than a server accepts, and receive any size.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channels = {
            name: grpc.insecure_channel(f"127.0.0.1:{port}", options)
            for name, port in ports.items()
            if not name.endswith("metrics")
        }
        self.num_made = 0
        self.broken: BaseException | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._room = threading.Semaphore(AT_ONCE)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._pool.shutdown()
        for channel in self._channels.values():
            channel.close()

    def call(self, call: Call) -> None:
        """Begins a call, when not too many are running."""
        self._begin(self._call, call)

    def connect(self, port: str, content: bytes) -> None:
        """Begins to send bytes, which need not be HTTP/2, over a new connection."""
        self._begin(self._connect, port, content)

    def call_by_hand(self, call: RawCall) -> None:
        """Begins a call with metadata that gRPC's client refuses to send, over a connection of its own."""
        self._begin(self._call_by_hand, call)

    def wait(self) -> None:
        """Returns when all calls and connections have ended."""
        for _ in range(AT_ONCE):
            self._room.acquire()
        self._room.release(AT_ONCE)

    def _begin(self, make: Callable[..., None], *what: object) -> None:
        self.num_made += 1
        self._room.acquire()
        made = self._pool.submit(make, *what)
        made.add_done_callback(self._ended)

    def _ended(self, made: Future[None]) -> None:
        self._room.release()
        if (error := made.exception()) is not None:  # a bug of this program
            self.broken = error

    def _connect(self, port: str, content: bytes) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[port]), SOCKET_S) as connection:
            connection.settimeout(SOCKET_S)
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        self._tally(port, "raw bytes")

    def _call_by_hand(self, call: RawCall) -> None:
        answer, code, port = b"", None, self.ports[call.method.port]
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
            connection.settimeout(ANSWER_S)
            connection.sendall(raw_call(call.method.path, call.metadata))
            while code is None and (piece := connection.recv(65536)):
                answer += piece
                code = status_in(answer)
        if code is None:  # such as of a call that has no end
            self._tally(call.method.port, "no answer")
        else:
            self._count(call.method, code, f"metadata {call.metadata}")

    def _call(self, call: Call) -> None:
        code, details = self._ending(call)
        sent = " ".join(message[:200].hex() or "(empty)" for message in call.messages)
        self._count(call.method, code, f"{details}; sent {sent}")

    def _count(self, method: Method, code: grpc.StatusCode, what: str) -> None:
        self._tally(method.port, code.name, f"{method}: {code.name} {what}" if code in NEVER else "")

    def _tally(self, port: str, code: str, finding: str = "") -> None:
        with self._lock:
            self.tally.by_port[port] += 1
            self.tally.codes[code] += 1
            if finding:
                self.tally.num_findings += 1
                if len(self.tally.findings) < MOST_FINDINGS:
                    self.tally.findings.append(finding)

    def _ending(self, call: Call) -> tuple[grpc.StatusCode, str]:
        """The status of a call; OK for one that the caller has cancelled."""
        ended = threading.Event()

        def requests() -> Iterator[bytes]:
            yield from call.messages
            if not call.half_closes:
                ended.wait(call.timeout_s)

        # Every call is made as a bidirectional stream, so that a unary request may have no or two messages.
        stream: Any = self._channels[call.method.port].stream_stream(call.method.path, None, None)
        running = stream(requests(), timeout=call.timeout_s, metadata=call.metadata)
        try:
            for number, _ in enumerate(running):
                if number >= call.most_responses:
                    running.cancel()
                    return grpc.StatusCode.CANCELLED, "by the caller"
            return grpc.StatusCode.OK, ""
        except grpc.RpcError:
            return running.code(), running.details() or ""
        finally:
            ended.set()
