"""Where the samples of a synthesis go: into the messages of a stream, or into the one message of the unary call."""

from __future__ import annotations

import asyncio

import grpc
from csm.v1 import tts_pb2

from services.common.calls import Context
from services.common.status import StatusError
from services.gateway import convert
from services.gateway.catalog import Catalog
from services.gateway.plan import SynthesisPlan
from services.gateway.synthesis import SynthesisResult
from services.gateway.wav import wav_header


class StreamSink:
    """Header before the first samples, chunks, summary."""

    def __init__(self, context: Context, plan: SynthesisPlan, catalog: Catalog, write_timeout_s: float) -> None:
        self._context = context
        self._plan = plan
        self._catalog = catalog
        self._write_timeout_s = write_timeout_s
        self._begun = False
        self._sent_samples = 0

    async def deliver(self, samples: bytes) -> None:
        """Raises StatusError CLIENT_TOO_SLOW."""
        prefix = await self._begin()
        await self._write_chunk(prefix + samples, len(samples) // 2)

    async def finish(self, result: SynthesisResult) -> None:
        if prefix := await self._begin():
            await self._write_chunk(prefix, 0)
        summary = convert.summary(self._plan, self._catalog, result)
        await self._write(tts_pb2.StreamSynthesizeResponse(summary=summary))

    async def _begin(self) -> bytes:
        """Sends the header, once; returns what the audio has to begin with."""
        if self._begun:
            return b""
        self._begun = True
        header = convert.header(self._plan, self._catalog)
        await self._write(tts_pb2.StreamSynthesizeResponse(header=header))
        return container_header(self._plan, self._catalog, None)

    async def _write_chunk(self, content: bytes, sample_count: int) -> None:
        chunk = tts_pb2.AudioChunk(audio_content=content, sample_offset=self._sent_samples, sample_count=sample_count)
        self._sent_samples += sample_count
        await self._write(tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk))

    async def _write(self, message: tts_pb2.StreamSynthesizeResponse) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._context.write(message)
        except TimeoutError:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "CLIENT_TOO_SLOW",
                f"The client has taken nothing for {self._write_timeout_s:g} s.",
                metadata={"sent_sample_count": str(self._sent_samples)},
            ) from None


class WholeSink:
    """Collects everything."""

    def __init__(self) -> None:
        self._samples = bytearray()

    async def deliver(self, samples: bytes) -> None:
        self._samples += samples

    def response(self, plan: SynthesisPlan, catalog: Catalog, result: SynthesisResult) -> tts_pb2.SynthesizeResponse:
        return tts_pb2.SynthesizeResponse(
            request_id=plan.request_id,
            audio_content=container_header(plan, catalog, result.sample_count) + bytes(self._samples),
            audio_format=convert.audio_format(plan, catalog),
            summary=convert.summary(plan, catalog, result),
            voice=plan.voice,
            model_version=catalog.model.model_version,
            seed=plan.seed,
        )


def container_header(plan: SynthesisPlan, catalog: Catalog, sample_count: int | None) -> bytes:
    """What comes before the samples in the asked encoding."""
    if plan.encoding == tts_pb2.AUDIO_ENCODING_WAV:
        return wav_header(catalog.sample_rate_hz, sample_count)
    return b""
