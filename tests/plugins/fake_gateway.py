"""A real HTTP door before a real gateway before fakes, as a program for clients of another environment.

Its argument, if any, is the gateway's file of tokens. It prints where gateway and door are, as JSON, and obeys lines:

pause N     the engine waits before frame N of each call
resume      it goes on
fail N      the engine fails before frame N of each call
cut         callers lose their connections to the gateway, and may connect again
begun       prints how many of the door's answers have begun
calls       prints each call of the engine: its text, and "ended" with the type of its error, or "open"
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.network.tcp_relay import TcpRelay, tcp_relay


def answer(door: FakeDoor, relay: TcpRelay, line: str) -> str:
    script = door.behind.engine.script
    match line.split():
        case ["pause", frame]:
            script.pause_at = int(frame)
        case ["resume"]:
            script.pause_at = None
            script.resume.set()
        case ["fail", frame]:
            script.fail_at = int(frame)
        case ["cut"]:
            relay.cut()
        case ["begun"]:
            return str(door.begun)
        case ["calls"]:
            return json.dumps(
                [
                    [call.request.segments[-1].text, f"ended {call.error}".strip() if call.ended.is_set() else "open"]
                    for call in door.behind.engine.calls
                ]
            )
        case _:
            return f"unknown: {line}"
    return "done"


async def main(tokens_file: str = "") -> None:
    settings: dict[str, Any] = {"auth_tokens_file": tokens_file} if tokens_file else {}
    async with fake_door(settings) as door, tcp_relay(door.behind.gateway.server.port) as relay:
        print(json.dumps({"target": f"127.0.0.1:{relay.port}", "url": door.url}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(answer(door, relay, line), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
