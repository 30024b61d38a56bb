"""A fake engine and a fake codec, as a process. The engine makes frames at the speed of playback."""

from __future__ import annotations

import asyncio
import sys

from csm.engine.v1 import engine_pb2

from services.common.rpc.calls import Context
from tests.support.fake_deployment import serve_stand_in
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ, FakeCodec, FakeEngine, fake_frames

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ


class LiveEngine(FakeEngine):
    """Sends a message of `batch_frames` frames whenever that much time has passed."""

    def __init__(self, batch_frames: int) -> None:
        super().__init__()
        self._batch_frames = batch_frames

    async def Generate(self, request: engine_pb2.GenerateRequest, context: Context) -> None:
        await context.write(engine_pb2.GenerateResponse(started=engine_pb2.GenerateStarted(prompt_token_count=12)))
        loop = asyncio.get_running_loop()
        begun_s, total = loop.time(), request.max_frame_count
        for first in range(0, total, self._batch_frames):
            await asyncio.sleep(begun_s + first * FRAME_S - loop.time())
            frames = fake_frames(first, min(self._batch_frames, total - first))
            await context.write(engine_pb2.GenerateResponse(frames=frames))
        reason = engine_pb2.FINISH_REASON_MAX_FRAMES
        complete = engine_pb2.GenerateComplete(finish_reason=reason, frame_count=total)
        await context.write(engine_pb2.GenerateResponse(complete=complete))


async def main(batch_frames: int) -> None:
    codec = FakeCodec()
    silence = bytes(2 * FRAME_SAMPLES * batch_frames)
    codec.audio_of = lambda frames: silence[: 2 * FRAME_SAMPLES * len(frames)]
    servers = [await serve_stand_in("engine", LiveEngine(batch_frames)), await serve_stand_in("codec", codec)]
    for server in servers:
        print(server.port, server.health_port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
