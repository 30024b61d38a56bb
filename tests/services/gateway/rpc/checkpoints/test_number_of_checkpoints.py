"""A checkpoint is sent when there is something new to keep, and not otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.gateway.synthesis.decoding import FrameBuffer
from tests.services.gateway.rpc.checkpoints.sealing_gateway import ENCODINGS, sealing_gateway
from tests.services.gateway.rpc.checkpoints.utterances import FRAMES, Request, receive


@pytest.mark.parametrize(("encoding", "most"), [("mp3", 2), ("pcm", FRAMES // 5)])
async def test_frames_that_were_sent_are_not_followed_by_empty_checkpoints(
    tmp_path: Path, stream_request: Request, encoding: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames are there before the first audio. MP3 has no places to resume at, so the first ones hold all."""
    stream_request.audio_config.audio_encoding = ENCODINGS[encoding]  # type: ignore[assignment]
    stream_request.stream_config.send_checkpoints = True
    complete, close = asyncio.Event(), FrameBuffer.close

    def close_and_tell(buffer: FrameBuffer) -> None:
        close(buffer)
        complete.set()

    monkeypatch.setattr(FrameBuffer, "close", close_and_tell)
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts), asyncio.timeout(60):
        deployment.engine.frame_count = FRAMES
        deployment.codec.script.pause_at = 0
        reading = asyncio.create_task(receive(tts, stream_request))
        await deployment.codec.script.paused.wait()
        await complete.wait()
        deployment.codec.script.resume.set()
        assert 1 <= len((await reading).states) <= most
