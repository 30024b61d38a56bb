"""A caller in bare HTTP/2 that sends most of a message and then nothing. No gRPC library does that.

    python -m tests.support.network.half_messages HOST:PORT FROM PATH STREAMS BYTES [FIRST]

Opens STREAMS calls of PATH from the address FROM. Each sends FIRST, a message in hexadecimal, and then a message of
BYTES bytes without its last 1 KiB. Prints how many bytes the server has accepted from all calls, and then, when
standard input ends, how many calls the server has ended.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4  # of SETTINGS
_MOST_DATA = 16_384


class HalfMessages:
    """One connection, and the bytes that its calls have yet to send."""

    def __init__(self, target: str, source: str) -> None:
        host, port = target.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), source_address=(source, 0))
        self._received, self._window, self._stream_window = b"", 65_535, 65_535
        self._windows: dict[int, int] = {}
        self._unsent: dict[int, memoryview] = {}
        self.num_sent = 0
        self.num_ended = 0
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0))

    def open(self, path: str, content: bytes) -> None:
        stream = 2 * len(self._windows) + 1
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "gateway", "te": "trailers"}
        block = b"".join(map(_literal, [*headers.items(), ("content-type", "application/grpc")]))
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, block))
        self._windows[stream], self._unsent[stream] = self._stream_window, memoryview(content)

    def run(self, seconds: float) -> None:
        """Sends as much as the flow control windows allow, until nothing could be sent for `seconds`."""
        last_sent_s = time.monotonic()
        while time.monotonic() - last_sent_s < seconds:
            before = self.num_sent
            for stream in list(self._unsent):
                self._send(stream)
                self._receive(0)
            if self.num_sent > before:
                last_sent_s = time.monotonic()
            else:
                self._receive(0.05)

    def _send(self, stream: int) -> None:
        content = self._unsent.get(stream, memoryview(b""))
        size = min(_MOST_DATA, len(content), self._window, self._windows[stream])
        if size > 0:
            self._socket.sendall(_frame(_DATA, 0, stream, content[:size]))
            self._unsent[stream] = content[size:]
            self._window -= size
            self._windows[stream] -= size
            self.num_sent += size

    def _receive(self, wait_s: float) -> None:
        if not select.select([self._socket], [], [], wait_s)[0]:
            return
        self._received += self._socket.recv(2**20)
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                return
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            self._handle(kind, flags, stream, self._received[9 : 9 + size])
            self._received = self._received[9 + size :]

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload, "big")
        elif kind == _WINDOW_UPDATE and stream in self._windows:
            self._windows[stream] += int.from_bytes(payload, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _INITIAL_WINDOW_SIZE:
                    self._windows = {key: window + value - self._stream_window for key, window in self._windows.items()}
                    self._stream_window = value
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _HEADERS and flags & _END_STREAM or kind == _RST_STREAM:
            self.num_ended += len(self._unsent.pop(stream, b"")) > 0


def _frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(header: tuple[str, str]) -> bytes:
    """A header as an HPACK literal, neither compressed nor indexed."""
    return b"\0" + b"".join(bytes([len(part)]) + part.encode() for part in header)


def _message(content: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(content)) + content


def main() -> None:
    target, source, path, streams, size, *first = sys.argv[1:]
    content = b"".join(_message(bytes.fromhex(given)) for given in first) + _message(bytes(int(size)))[:-1024]
    caller = HalfMessages(target, source)
    for _ in range(int(streams)):
        caller.open(path, content)
    caller.run(2.0)
    print(caller.num_sent, flush=True)
    sys.stdin.read()
    caller.run(0.2)
    print(caller.num_ended, flush=True)


if __name__ == "__main__":
    main()
