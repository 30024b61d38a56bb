"""Two codecs as programs, for the benchmark: `whole` is the codec stage over an idle device, `bare` only sends samples.

python -m bench.codec_host.stage whole --bundle FOLDER --slots 256 --port 0 ...    # options of services.codec
python -m bench.codec_host.stage bare
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable

import grpc
import torch
from csm.codec.v1 import codec_pb2, codec_pb2_grpc

from bench.codec_host.caller import FRAME_SAMPLES
from bench.codec_host.idle_device import Parts
from services.codec.keyring import FollowedKeyring
from services.codec.load import LoadedCodec
from services.codec.settings import CodecSettings
from services.codec.stage import start_codec
from services.common.rpc.calls import Context
from services.common.settings import load_settings


def idle(settings: CodecSettings, on_keyring_reload: Callable[[bool], None]) -> LoadedCodec:
    """The codec of the settings' bundle and slots, over an idle device."""
    torch.set_num_threads(1)
    keyring = FollowedKeyring(
        settings.watermark_keyring,
        allow_public_key=settings.allow_public_watermark_key,
        on_reload=on_keyring_reload,
    )
    parts = Parts.of_bundle(settings.bundle)
    codec = parts.codec(settings.slots, keyring)
    return LoadedCodec(
        (codec,), parts.mimi, parts.silentcipher, keyring, 0, parts.bundle, torch_threads=None, resume_digest=""
    )


class BareCodec(codec_pb2_grpc.CodecServiceServicer):
    """Answers each message of a stream with as many frames of samples."""

    async def StreamDecode(self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], context: Context) -> None:
        await anext(requests)
        await context.write(codec_pb2.StreamDecodeResponse(started=codec_pb2.StreamDecodeStarted()))
        async for request in requests:
            count = FRAME_SAMPLES * request.frames.frame_count
            audio = codec_pb2.AudioSamples(samples=bytes(2 * count), sample_count=count)
            await context.write(codec_pb2.StreamDecodeResponse(audio=audio))
        await context.write(codec_pb2.StreamDecodeResponse(complete=codec_pb2.StreamDecodeComplete()))


async def whole() -> None:
    stage = await start_codec(load_settings(CodecSettings, sys.argv[2:]), load=idle)
    print(stage.server.port, flush=True)
    await asyncio.Event().wait()


async def bare() -> None:
    """A plain server of grpc.aio."""
    server = grpc.aio.server()
    codec_pb2_grpc.add_CodecServiceServicer_to_server(BareCodec(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(whole() if sys.argv[1] == "whole" else bare())
