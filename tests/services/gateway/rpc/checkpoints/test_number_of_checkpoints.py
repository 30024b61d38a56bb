"""A checkpoint is sent when there is something new to keep, and not otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.services.gateway.rpc.checkpoints.sealing_gateway import ENCODINGS, sealing_gateway
from tests.services.gateway.rpc.checkpoints.utterances import FRAMES, Request, receive


@pytest.mark.parametrize(("encoding", "most"), [("mp3", 2), ("pcm", FRAMES // 5)])
async def test_frames_that_were_sent_are_not_followed_by_empty_checkpoints(
    tmp_path: Path, stream_request: Request, encoding: str, most: int
) -> None:
    """The engine is done before the first audio. MP3 has no places to resume at, so the first ones hold all."""
    stream_request.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    stream_request.stream_config.send_checkpoints = True
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts), asyncio.timeout(60):
        deployment.engine.frame_count = FRAMES
        deployment.codec.script.pause_at = 0
        reading = asyncio.create_task(receive(tts, stream_request))
        await deployment.codec.script.paused.wait()
        await deployment.engine.calls[0].ended.wait()
        deployment.codec.script.resume.set()
        assert 1 <= len((await reading).states) <= most
