"""Sinks for the samples of a synthesis: encoded into the messages of a stream, or into the one unary response."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from functools import cached_property

import grpc
from csm.v1 import tts_pb2

from services.common.outcomes import retrieve_exception
from services.common.rpc.calls import Context
from services.common.rpc.status import StatusError
from services.gateway.audio.encoded import AudioEncoder, EncodedAudio
from services.gateway.audio.encodings import ENCODINGS, open_encoder, open_last_samples
from services.gateway.audio.resampling.continuation import Place
from services.gateway.rpc import responses
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult

_LAST_WRITE_S = 1.0  # longest wait for a running write when its call is ended
_PIECE_SIZE = 2 * 4800  # bytes of samples encoded before other tasks run


Response = tts_pb2.StreamSynthesizeResponse | tts_pb2.StreamSynthesizeTextResponse


class StreamSink:
    """Writes the messages of a stream: header, audio chunks, summary. A sentence is announced before its audio."""

    def __init__(
        self,
        context: Context,
        plan: SynthesisPlan,
        catalog: Catalog,
        write_timeout_s: float,
        response: type[Response],
        *,
        least_pace: float,
        place: Place | None,
        resumed: tts_pb2.SynthesisHeader,
    ) -> None:
        """response: message type of the stream. write_timeout_s: longest wait of one write. least_pace: the waits of
        all writes, beyond one of `write_timeout_s`, may take 1 s for each `least_pace` seconds of audio that the client
        has taken; 0 is no limit. place: where the audio resumes; None is the start. resumed: further fields of the
        header.
        """
        self._context = context
        self._plan = plan
        self._catalog = catalog
        self._write_timeout_s, self._least_pace = write_timeout_s, least_pace
        self._waited_s = 0.0  # for the client, in all writes
        self._response = response
        self._begun = False
        self._written = False  # whether a message was
        self._first_words = plan.text  # or the first sentence of a text in pieces
        self._sentences: list[tts_pb2.Sentence] = []  # to be announced
        self._begins_at, self._resumed = place, resumed
        self._last_samples = open_last_samples(plan.encoding, catalog.sample_rate_hz, plan.sample_rate_hz, place)
        self.taken_samples = 0 if place is None else place.decoded_samples  # at the codec's rate
        self.sent_samples = self._had_samples = 0 if place is None else place.sent_samples  # at the caller's rate

    def begin_sentence(self, text: str) -> None:
        """The next samples belong to this sentence. It is announced only in StreamSynthesizeText."""
        if self._response is tts_pb2.StreamSynthesizeResponse:
            return
        self._first_words = self._first_words or text
        offset = round(self.taken_samples * self._plan.sample_rate_hz / self._catalog.sample_rate_hz)
        self._sentences.append(tts_pb2.Sentence(text=text, sample_offset=offset))

    @cached_property
    def _encoder(self) -> AudioEncoder:
        """Opened with the first samples."""
        return encoder_of(self._plan, self._catalog, self._first_words, self._begins_at)

    async def deliver(self, samples: bytes) -> int:
        """Encodes and writes samples; returns the number sent. Raises StatusError CLIENT_TOO_SLOW."""
        self.taken_samples += len(samples) // 2
        self._last_samples.push(samples)
        return await self._send(await encode(self._encoder, samples))

    async def end_sentence(self, checkpoint: Callable[[Place], bytes]) -> None:
        """Sends the checkpoint of the sentence whose last samples were delivered. checkpoint: makes it for a place"""
        await self._send(EncodedAudio(b"", 0))  # announces a sentence without audio
        state = checkpoint(self._last_samples.place(self.taken_samples, self.sent_samples))
        if self._response is tts_pb2.StreamSynthesizeResponse:
            await self.send_checkpoint(state)
        else:
            await self._write(tts_pb2.StreamSynthesizeTextResponse(checkpoint=tts_pb2.TextCheckpoint(state=state)))

    async def send_checkpoint(self, state: bytes) -> None:
        """Sends a checkpoint of the utterance or sentence whose samples were delivered last."""
        checkpoint = tts_pb2.SpeechCheckpoint(state=state)
        if self._response is tts_pb2.StreamSynthesizeResponse:
            await self._write(tts_pb2.StreamSynthesizeResponse(checkpoint=checkpoint))
        else:
            await self._write(tts_pb2.StreamSynthesizeTextResponse(speech_checkpoint=checkpoint))

    async def finish(self, result: SynthesisResult) -> None:
        await self._send(self._encoder.finish())
        summary = responses.summary(self._plan, result, self.sent_samples)
        await self._write(self._response(summary=summary))

    async def _send(self, audio: EncodedAudio) -> int:
        content = await self._begin() + audio.content
        while self._sentences:
            await self._write(tts_pb2.StreamSynthesizeTextResponse(sentence=self._sentences.pop(0)))
        if content:  # an encoder may need more samples first
            chunk = tts_pb2.AudioChunk(
                audio_content=content, sample_offset=self.sent_samples, sample_count=audio.sample_count
            )
            await self._write(self._response(audio_chunk=chunk))
            self.sent_samples += audio.sample_count
        return audio.sample_count

    async def _begin(self) -> bytes:
        """Sends the stream's header once; returns the container header that comes before the audio."""
        if self._begun:
            return b""
        self._begun = True
        header = responses.header(self._plan, self._catalog)
        header.MergeFrom(self._resumed)
        await self._write(self._response(header=header))
        return b"" if self._begins_at is not None else container_header(self._plan, None)

    async def _write(self, message: Response) -> None:
        write = asyncio.ensure_future(self._context.write(message))
        write.add_done_callback(retrieve_exception)
        began_s = time.monotonic()
        patience_s = self._patience_s
        try:
            await asyncio.wait({write}, timeout=patience_s)
        except asyncio.CancelledError:
            # grpc.aio can lose the status of a call that ends after a cancelled write: the caller would wait for ever.
            await asyncio.wait({write}, timeout=_LAST_WRITE_S)
            raise
        if not write.done() and not self._written:
            await asyncio.wait({write}, timeout=_LAST_WRITE_S)  # else grpc.aio would lose the status, too
        if not write.done():  # after a pause of the whole process it may be done although the wait timed out
            write.cancel()
            raise self._too_slow(patience_s)
        write.result()
        self._written = True
        self._waited_s += time.monotonic() - began_s

    @property
    def _patience_s(self) -> float:
        """How long the next write may wait."""
        if not self._least_pace:
            return self._write_timeout_s
        return self._write_timeout_s + min(0.0, self._taken_s / self._least_pace - self._waited_s)

    @property
    def _taken_s(self) -> float:
        """Seconds of audio that the client has taken."""
        return (self.sent_samples - self._had_samples) / self._plan.sample_rate_hz

    def _too_slow(self, patience_s: float) -> StatusError:
        if patience_s == self._write_timeout_s:
            why = f"The client has taken nothing for {self._write_timeout_s:g} s."
        else:
            why = (
                f"The client has taken {self._taken_s:.1f} s of audio while the server waited for it for"
                f" {self._waited_s + max(0.0, patience_s):.1f} s; at least {self._least_pace:g} s in a second are"
                " needed."
            )
        metadata = {"sent_sample_count": str(self.sent_samples)}
        return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT_TOO_SLOW", why, metadata=metadata)


class WholeSink:
    """Collects all audio for the unary response."""

    def __init__(self, plan: SynthesisPlan, catalog: Catalog) -> None:
        self._plan = plan
        self._catalog = catalog
        self._encoder = encoder_of(plan, catalog, plan.text)
        self._content = bytearray()
        self._sample_count = 0  # at the caller's rate

    async def deliver(self, samples: bytes) -> int:
        return self._collect(await encode(self._encoder, samples))

    def response(self, result: SynthesisResult) -> tts_pb2.SynthesizeResponse:
        self._collect(self._encoder.finish())
        plan = self._plan
        return tts_pb2.SynthesizeResponse(
            request_id=plan.request_id,
            audio_content=container_header(plan, self._sample_count) + bytes(self._content),
            audio_format=responses.audio_format(plan),
            summary=responses.summary(plan, result, self._sample_count),
            voice=plan.voice,
            model_version=self._catalog.model.model_version,
            seed=plan.sampling.seed,
        )

    def _collect(self, audio: EncodedAudio) -> int:
        self._content += audio.content
        self._sample_count += audio.sample_count
        return audio.sample_count


def encoder_of(plan: SynthesisPlan, catalog: Catalog, words: str, place: Place | None = None) -> AudioEncoder:
    """The encoder of a stream. words: its first words. place: where the audio resumes; None is the start.

    Ogg streams that may be joined need different serial numbers. The seed is not enough, for a voice may fix it; nor
    are the first words, for the answers of a conversation may begin alike.
    """
    serial = plan.sampling.seed % 2**32
    for text in (words, *(turn.text for turn in plan.turns)):
        serial = zlib.crc32(text.encode(), serial)
    return open_encoder(plan.encoding, catalog.sample_rate_hz, plan.sample_rate_hz, serial, place)


async def encode(encoder: AudioEncoder, samples: bytes) -> EncodedAudio:
    """Encodes in pieces and lets other tasks run in between: a minute of Opus takes a second to encode."""
    pieces: list[EncodedAudio] = []
    for at in range(0, len(samples), _PIECE_SIZE):
        pieces.append(encoder.push(samples[at : at + _PIECE_SIZE]))
        await asyncio.sleep(0)
    return EncodedAudio(b"".join(piece.content for piece in pieces), sum(piece.sample_count for piece in pieces))


def container_header(plan: SynthesisPlan, sample_count: int | None) -> bytes:
    """The container header before the samples; empty when there is none or the encoder writes it."""
    return ENCODINGS[plan.encoding].header(plan.sample_rate_hz, sample_count)
