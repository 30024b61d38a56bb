"""A TextToSpeechService without a model: what a client meets, good and bad, chosen by the text.

Run as a program: it prints its port and serves until it is stopped. It hums instead of speaking, and
it checks no more of a request than the clients' tests need.

    ""       INVALID_ARGUMENT with the field in google.rpc.BadRequest
    "lost"   some audio, then UNAVAILABLE
    "cut"    some audio, then OK without a summary, as a broken server would
    "gap"    audio with a hole
    "stall"  some audio, then nothing more
    other    one second of audio, or `max_audio_duration` of it
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Iterator
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

SAMPLE_RATE_HERTZ = 24_000
FRAME_SAMPLES = 1_920
FRAME = struct.pack(
    f"<{FRAME_SAMPLES}h",
    *(round(8000 * math.sin(2 * math.pi * 300 * i / SAMPLE_RATE_HERTZ)) for i in range(1920)),
)
FORMAT = tts_pb2.AudioFormat(
    audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=SAMPLE_RATE_HERTZ, channel_count=1
)

Response = tts_pb2.StreamSynthesizeResponse
Request = tts_pb2.SynthesizeRequest | tts_pb2.StreamSynthesizeRequest


class HummingService(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Answers as the module's docstring says."""

    async def Synthesize(
        self, request: tts_pb2.SynthesizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tts_pb2.SynthesizeResponse:
        await refuse_empty_text(request, context)
        frames = wanted_frames(request)
        return tts_pb2.SynthesizeResponse(audio_content=FRAME * frames, audio_format=FORMAT, summary=summary(frames))

    async def StreamSynthesize(
        self, request: tts_pb2.StreamSynthesizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        await refuse_empty_text(request, context)
        text = request.input.text
        await context.write(Response(header=tts_pb2.SynthesisHeader(audio_format=FORMAT, seed=7)))
        if text in ("lost", "cut", "gap", "stall"):
            for chunk in audio(range(3) if text != "gap" else (0, 1, 3)):
                await context.write(chunk)
            if text == "lost":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "The engine was lost.")
            if text == "stall":
                await asyncio.Event().wait()
            return
        frames = wanted_frames(request)
        for chunk in audio(range(frames)):
            await context.write(chunk)
        await context.write(Response(summary=summary(frames)))


async def refuse_empty_text(request: Request, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if request.input.text:
        return
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="input.text", description="It is empty.")
    info = error_details_pb2.ErrorInfo(reason="TEXT_EMPTY", domain="csm")
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(info)
    details[1].Pack(bad)
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="1 field is wrong.", details=details)
    await context.abort_with_status(rpc_status.to_status(status))  # type: ignore[attr-defined]  # the stubs lack it


def wanted_frames(request: Request) -> int:
    seconds = request.max_audio_duration.seconds or 1
    return math.ceil(seconds * SAMPLE_RATE_HERTZ / FRAME_SAMPLES)


def audio(frames: range | tuple[int, ...]) -> Iterator[Response]:
    for frame in frames:
        chunk = tts_pb2.AudioChunk(audio_content=FRAME, sample_offset=frame * FRAME_SAMPLES, sample_count=FRAME_SAMPLES)
        yield Response(audio_chunk=chunk)


def summary(frames: int) -> tts_pb2.SynthesisSummary:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(frames * 80)
    latency = duration_pb2.Duration(nanos=210_000_000)
    stats = tts_pb2.SynthesisStats(
        frame_count=frames,
        sample_count=frames * FRAME_SAMPLES,
        audio_duration=duration,
        first_audio_latency=latency,
        total_duration=duration,
    )
    return tts_pb2.SynthesisSummary(
        finish_reason=tts_pb2.FINISH_REASON_END_OF_SPEECH,
        stats=stats,
        watermark=tts_pb2.WatermarkInfo(coverage=tts_pb2.WATERMARK_COVERAGE_FULL, scheme="silentcipher/1", key_id="k1"),
    )


async def main() -> None:
    server = grpc.aio.server()
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(HummingService(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
