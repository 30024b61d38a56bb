"""A slow and lossy network between two namespaces: a program that carries IP packets between two TUN devices.

    python -m bench.network.relay csm-bench-engine 10.77.1.1 10.77.1.2

One device is in this namespace, one in the other. Each packet is delayed or lost. Both ends use the kernel's TCP, so
retransmission and congestion control are real. `tc qdisc add ... netem` does the same, but needs the kernel module
sch_netem; this needs only /dev/net/tun. A line on standard input, "DELAY_MS LOSS_SHARE", sets both directions. Its
answer is a line "BYTES_OUT BYTES_BACK": what was carried since the last line, with IP headers and lost packets.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
MTU = 1500
MAX_WAITING = 20_000  # packets; more are dropped, as by a full queue of netem


class Relay:
    """Carries packets between two devices until it is stopped."""

    def __init__(self, here: int, there: int, seed: int = 0) -> None:
        """here, there: open TUN devices. seed: of the losses."""
        self.delay_s = 0.0
        self.loss = 0.0  # share of packets, in each direction
        self.carried = {here: 0, there: 0}  # bytes, by the device that they came from
        self._other = {here: there, there: here}
        self._random = random.Random(seed)
        self._waiting = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        for device in self._other:
            os.set_blocking(device, False)
            loop.add_reader(device, self._take, loop, device)

    def _take(self, loop: asyncio.AbstractEventLoop, device: int) -> None:
        while True:
            try:
                packet = os.read(device, 2 * MTU)
            except BlockingIOError:
                return
            self.carried[device] += len(packet)
            if self._random.random() < self.loss or self._waiting >= MAX_WAITING:
                continue
            self._waiting += 1
            loop.call_later(self.delay_s, self._give, self._other[device], packet)

    def _give(self, device: int, packet: bytes) -> None:
        self._waiting -= 1
        try:
            os.write(device, packet)
        except BlockingIOError:
            pass  # the kernel's queue is full: lost


def open_tun(name: str) -> int:
    """A new TUN device of this namespace, as a file descriptor. Raises OSError without root or /dev/net/tun."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN_WITHOUT_HEADER))
    return descriptor


def connect(namespace: str, address_here: str, address_there: str) -> tuple[int, int]:
    """Two TUN devices with addresses, one of them in the namespace. They vanish when they are closed."""
    names = (f"csm{os.getpid()}h", f"csm{os.getpid()}t")
    here, there = (open_tun(name) for name in names)
    ip("link", "set", names[1], "netns", namespace)
    ip("address", "add", address_here, "peer", address_there, "dev", names[0])
    ip("link", "set", names[0], "up", "mtu", str(MTU))
    ip("-n", namespace, "address", "add", address_there, "peer", address_here, "dev", names[1])
    ip("-n", namespace, "link", "set", names[1], "up", "mtu", str(MTU))
    return here, there


async def main() -> None:
    namespace, address_here, address_there = sys.argv[1:]
    here, there = connect(namespace, address_here, address_there)
    relay = Relay(here, there)
    loop = asyncio.get_running_loop()
    relay.start(loop)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():  # until standard input ends
        delay_ms, loss = map(float, line.split())
        print(relay.carried[here], relay.carried[there], flush=True)
        relay.carried |= {here: 0, there: 0}
        relay.delay_s, relay.loss = delay_ms / 1000, loss


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    asyncio.run(main())
