"""Codes from a codec of another bundle, while codecs are replaced, do not fit the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2

from tests.services.gateway.voices.callers import calling, deployment_with_tokens, read, refusal
from tests.services.gateway.voices.callers import recording as wav_turn
from tests.services.gateway.voices.test_files import write_voice
from tests.support.fake_deployment import FakeDeployment


def replace_codec(running: FakeDeployment) -> None:
    """Another codec encodes the next recording, and only that one."""
    encode = running.codec.encode

    async def encode_as_another(recording: codec_pb2.EncodeRequest) -> codec_pb2.EncodeResponse:
        answer = await encode(recording)
        foreign = codec_pb2.EncodeResponse()
        foreign.CopyFrom(answer)
        foreign.codec.weights_digest = "f1"
        running.codec.encode = encode  # type: ignore[method-assign]
        return foreign

    running.codec.encode = encode_as_another  # type: ignore[method-assign]


async def test_codes_of_another_codec_are_refused_as_context_and_prompt(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    write_voice(folder, "carol")
    async with (
        deployment_with_tokens(tmp_path, voices_folder=folder) as running,
        calling(running, "shop") as (shop,),
    ):
        await read(shop.say())
        turn = tts_pb2.Turn(speaker=1, text="Before.", audio=wav_turn())
        context: dict[str, Any] = {"context": tts_pb2.SynthesisContext(turns=[turn])}
        for voice, fields in (("carol", {}), ("ada", context)):
            replace_codec(running)
            error = await refusal(shop.say(voice, **fields))
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "CODEC_CHANGED")
            await read(shop.say(voice, **fields))
    assert len(running.engine.calls) == 3 and len(running.codec.encoded) == 4
