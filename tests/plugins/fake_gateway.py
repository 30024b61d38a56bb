"""A real gateway before fakes, as a program for clients of another environment. It prints its target, and obeys lines:

pause N     the engine waits before frame N of each call
resume      it goes on
calls       prints each call of the engine: its text, and "ended" with the type of its error, or "open"
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.support.fake_deployment import FakeDeployment, fake_deployment


def answer(deployment: FakeDeployment, line: str) -> str:
    match line.split():
        case ["pause", frame]:
            deployment.engine.script.pause_at = int(frame)
        case ["resume"]:
            deployment.engine.script.pause_at = None
            deployment.engine.script.resume.set()
        case ["calls"]:
            return json.dumps(
                [
                    [call.request.segments[-1].text, f"ended {call.error}".strip() if call.ended.is_set() else "open"]
                    for call in deployment.engine.calls
                ]
            )
        case _:
            return f"unknown: {line}"
    return "done"


async def main() -> None:
    async with fake_deployment() as deployment:
        print(deployment.target, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(answer(deployment, line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
