"""Garbage of calls is collected soon, without a scan of what a stage has loaded."""

from __future__ import annotations

import subprocess
import sys

LOADED = 200_000
STAGE = f"""
import asyncio, os, signal
from collections import deque
from services.common.process.run import run_stage

class Thing:
    alive = 0
    def __init__(self):
        Thing.alive += 1
        self.itself = self
    def __del__(self):
        Thing.alive -= 1

class Server:
    async def wait_failed(self):
        await asyncio.Event().wait()

class Stage:
    server = Server()
    async def stop(self):
        most, running = 0, deque(maxlen=5_000)
        for _ in range(200_000):  # calls; each leaves a cycle, when 5,000 later ones have begun
            running.append(Thing())
            most = max(most, Thing.alive)
        print(most, len(loaded))

async def start():
    loaded.extend([number] for number in range({LOADED}))
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
    return Stage()

loaded = []
run_stage(start)
"""


def test_garbage_is_collected_despite_the_many_objects_loaded_at_the_start() -> None:
    printed = subprocess.check_output([sys.executable, "-c", STAGE], text=True, stderr=subprocess.DEVNULL)
    most, loaded = map(int, printed.split())
    assert most < LOADED // 5 and loaded == LOADED
