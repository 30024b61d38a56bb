"""A gateway before stand-ins of engine and codec, as a process: it prints its API and health ports, and serves.

The stand-ins make silence-like audio at once, so that what is measured is the way through gateway and door alone.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.fake_deployment import fake_deployment


async def main(frame_count: int) -> None:
    async with fake_deployment(max_utterance_audio_seconds=300.0) as running:
        running.engine.frame_count = frame_count
        await running.gateway.wait_ready()
        print(running.gateway.server.port, running.gateway.server.health_port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
