"""A relay of bare stubs, as a process: from the engine to the codec, from there to the caller. It checks nothing, keeps
nothing and survives nothing. It is the floor of what a gateway over grpc.aio can cost.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.calls import Context
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ, fake_identity


class Relay(tts_pb2_grpc.TextToSpeechServiceServicer):
    """A service with one method, which relays a stream."""

    def __init__(self, engine: grpc.aio.Channel, codec: grpc.aio.Channel) -> None:
        self._engine = engine_pb2_grpc.EngineServiceStub(engine)
        self._codec = codec_pb2_grpc.CodecServiceStub(codec)

    async def StreamSynthesize(
        self, request: tts_pb2.StreamSynthesizeRequest, context: Context
    ) -> AsyncIterator[tts_pb2.StreamSynthesizeResponse]:
        most_s = request.max_audio_duration.ToTimedelta().total_seconds()
        frames: asyncio.Queue[rvq_pb2.CodeFrames | None] = asyncio.Queue()

        async def generate() -> None:
            generating = engine_pb2.GenerateRequest(max_frame_count=round(most_s * SAMPLE_RATE_HZ / FRAME_SAMPLES))
            async for response in self._engine.Generate(generating):
                if response.HasField("frames"):
                    frames.put_nowait(response.frames)
            frames.put_nowait(None)

        async def requests() -> AsyncIterator[codec_pb2.StreamDecodeRequest]:
            yield codec_pb2.StreamDecodeRequest(config=codec_pb2.StreamDecodeConfig(codec=fake_identity()))
            while (part := await frames.get()) is not None:
                yield codec_pb2.StreamDecodeRequest(frames=part)

        async with asyncio.TaskGroup() as group:
            group.create_task(generate())
            async for response in self._codec.StreamDecode(requests()):
                if response.HasField("audio"):
                    audio = response.audio
                    chunk = tts_pb2.AudioChunk(
                        audio_content=audio.samples, sample_offset=audio.sample_offset, sample_count=audio.sample_count
                    )
                    yield tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)


async def main(engine_port: str, codec_port: str) -> None:
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for port in (engine_port, codec_port)]
    server = grpc.aio.server()
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(Relay(*channels), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
