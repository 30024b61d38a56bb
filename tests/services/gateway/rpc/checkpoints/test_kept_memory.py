"""A running stream keeps none of the checkpoints of its request, which may be as large as a request may be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from csm.v1 import tts_pb2

from services.gateway.auth.code_sealing import STATE_MAGIC
from tests.services.gateway.rpc.checkpoints.sealing_gateway import sealing_gateway
from tests.support.fake_deployment import read_until_audio
from tests.support.text_streams import messages_of

OF_A_LATER_VERSION = STATE_MAGIC[:-1] + b"\xff"
MANY = 15_000  # a message has room for 20,000 values


@pytest.mark.parametrize("sealing", ["sealed", "open"])
@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("StreamSynthesize", "checkpoints"),
        ("StreamSynthesizeText", "checkpoints"),
        ("StreamSynthesizeText", "speech_checkpoints"),
    ],
)
async def test_a_running_stream_keeps_no_checkpoint(
    tmp_path: Path, stream_request: tts_pb2.StreamSynthesizeRequest, method: str, field: str, sealing: str
) -> None:
    async with sealing_gateway(tmp_path / "seals.json", code_sealing=sealing) as (deployment, tts):
        deployment.engine.script.pause_at = 5

        async def blocks_of_a_stream() -> int:
            before = sys.getallocatedblocks()
            call = getattr(tts, method)(request)
            await read_until_audio(call)
            kept = sys.getallocatedblocks() - before
            call.cancel()
            return kept

        if method == "StreamSynthesizeText":
            stream_request.ClearField("input")
        request = messages_of(stream_request) if method == "StreamSynthesizeText" else stream_request
        await blocks_of_a_stream()  # the first stream allocates what all share
        getattr(stream_request.stream_config, field).extend([OF_A_LATER_VERSION] * MANY)
        request = messages_of(stream_request) if method == "StreamSynthesizeText" else stream_request
        assert await blocks_of_a_stream() < MANY / 2
