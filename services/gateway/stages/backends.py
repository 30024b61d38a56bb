"""Clients of engine and codec: protocols of one method each, and their implementations over gRPC.

A call ends with its iterator: closing it, a cancel and a failure all cancel the RPC, and the stage frees its slot or
decode state. Deadline and request id are passed explicitly. Every failure is a StageError.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol

import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from services.common.rpc.channels.opening import call_metadata
from services.gateway.metrics import GatewayMetrics
from services.gateway.stages.balancing import Key, conversation_metadata
from services.gateway.stages.calls import MOST_LOSSES, ask, calling, messages
from services.gateway.stages.errors import FULL, StageError, broken, checked, is_fault, is_loss
from services.gateway.stages.full_replicas import FullReplicas
from services.gateway.stages.known_replicas import KnownReplicas
from services.gateway.stages.moved_conversations import MovedConversations
from services.gateway.stages.reloading_channel import ReloadingChannel

END_S = 1.0  # longest wait for a codec's status after its answer
Samples = AsyncGenerator[bytes, None]  # of one recording, in pieces; the sender closes it


class Generates(Protocol):
    def generate(
        self, request: engine_pb2.GenerateRequest, timeout_s: float, conversation: str = "", *, tries_one: bool = False
    ) -> AsyncGenerator[engine_pb2.GenerateResponse, None]: ...


class Decodes(Protocol):
    def decode(
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], timeout_s: float
    ) -> AsyncGenerator[codec_pb2.StreamDecodeResponse, None]: ...


class Encodes(Protocol):
    async def encode(
        self, config: codec_pb2.StreamEncodeConfig, samples: Samples, timeout_s: float
    ) -> codec_pb2.EncodeResponse: ...


class Detects(Protocol):
    async def detect(
        self, config: codec_pb2.StreamDetectWatermarkConfig, samples: Samples, timeout_s: float
    ) -> codec_pb2.DetectWatermarkResponse: ...


class DescribesModel(Protocol):
    async def model_info(
        self, timeout_s: float, *, wait_for_ready: bool = False, conversation: str = ""
    ) -> engine_pb2.GetModelInfoResponse: ...


class DescribesVoices(Protocol):
    async def voice_prompt(self, name: str, timeout_s: float) -> engine_pb2.GetVoicePromptResponse: ...


class DescribesCodec(Protocol):
    async def codec_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> codec_pb2.GetCodecInfoResponse: ...


class GrpcEngine:
    """The client of the engine replicas."""

    def __init__(
        self,
        channel: ReloadingChannel[engine_pb2_grpc.EngineServiceStub],
        by_conversation: ReloadingChannel[engine_pb2_grpc.EngineServiceStub],
        *,
        metrics: GatewayMetrics,
        max_full: int,
        silence_s: float,
    ) -> None:
        """channel: for calls without a conversation. max_full: how often a call that a full replica refused is sent
        again, to another one. silence_s: seconds without a message after which a replica counts as lost; 0 turns
        this off.
        """
        self._channel, self._by_conversation, self._silence_s = channel, by_conversation, silence_s
        self._max_full, self._metrics = max_full, metrics
        self._replicas, self._moved = KnownReplicas(), MovedConversations()

    async def generate(
        self, request: engine_pb2.GenerateRequest, timeout_s: float, conversation: str = "", *, tries_one: bool = False
    ) -> AsyncGenerator[engine_pb2.GenerateResponse, None]:
        """The events of Generate, without progress messages.

        A full replica has generated nothing, so the call is made again to another one. The keys of several attempts may
        lead to the same replica, so the last attempt is balanced by load. After a fault of its replica, a conversation
        has another key.

        conversation: key of the conversation that the request continues; "" goes to the least loaded replica.
        tries_one: all replicas were full a moment ago, so only one is tried, chosen by load.
        """
        most_full = 0 if tries_one else self._max_full
        if tries_one and self._max_full:
            conversation = ""
        by = "conversation" if conversation else "load"
        self._metrics.engine_calls.labels(by).inc()
        until_s = time.monotonic() + timeout_s
        full = FullReplicas(most_full, lambda what: self._metrics.full_replicas.labels("engine", by, what).inc())
        for attempt in itertools.count():
            if attempt and attempt == most_full:
                conversation = ""
            key = conversation_metadata(conversation, self._moved.count(conversation) + attempt)
            try:
                async with aclosing(self._attempt(request, until_s, key)) as responses:
                    async for response in responses:
                        yield response
                return
            except StageError as error:
                if is_fault(error) and conversation:
                    self._moved.move(conversation)
                if error.reason != FULL or not full.moves_on(error):
                    raise

    def _attempt(
        self, request: engine_pb2.GenerateRequest, until_s: float, key: Key
    ) -> AsyncGenerator[engine_pb2.GenerateResponse, None]:
        metadata = (*call_metadata(), *key)

        def call(stub: engine_pb2_grpc.EngineServiceStub) -> Any:
            return stub.Generate(request, timeout=max(0.0, until_s - time.monotonic()), metadata=metadata)

        return messages("ENGINE", self._channel_for(key), self._replicas, call, self._silence_s)

    def _channel_for(self, key: Key) -> ReloadingChannel[engine_pb2_grpc.EngineServiceStub]:
        """The channel by load without a conversation's key, and for a while after a replica was silent.

        Meanwhile the ring-hash channel tries to connect to the silent replica again, and holds back the calls with its
        keys. The channel by load is reconnected too, but uses the connections that are open.
        """
        if not key:
            return self._channel
        renewed_at_s = self._by_conversation.renewed_at_s
        if time.monotonic() >= renewed_at_s + self._silence_s:
            return self._by_conversation
        if self._channel.renewed_at_s < renewed_at_s:
            self._channel.renew()
        return self._channel

    async def model_info(
        self, timeout_s: float, *, wait_for_ready: bool = False, conversation: str = ""
    ) -> engine_pb2.GetModelInfoResponse:
        """wait_for_ready: waits for a replica when none is available. conversation: asks its replica."""
        key = conversation_metadata(conversation, self._moved.count(conversation))
        metadata = (*call_metadata(), *key)

        def call(stub: engine_pb2_grpc.EngineServiceStub, timeout_s: float) -> Any:
            request = engine_pb2.GetModelInfoRequest()
            return stub.GetModelInfo(request, timeout=timeout_s, metadata=metadata, wait_for_ready=wait_for_ready)

        channel = self._channel_for(key)
        answer: engine_pb2.GetModelInfoResponse = await ask(
            "ENGINE", channel, self._replicas, call, timeout_s, self._silence_s
        )
        return answer

    async def voice_prompt(self, name: str, timeout_s: float) -> engine_pb2.GetVoicePromptResponse:
        def call(stub: engine_pb2_grpc.EngineServiceStub, timeout_s: float) -> Any:
            request = engine_pb2.GetVoicePromptRequest(name=name)
            return stub.GetVoicePrompt(request, timeout=timeout_s, metadata=call_metadata())

        answer: engine_pb2.GetVoicePromptResponse = await ask(
            "ENGINE", self._channel, self._replicas, call, timeout_s, self._silence_s
        )
        return answer


class GrpcCodec:
    """The client of the codec replicas."""

    def __init__(
        self,
        channel: ReloadingChannel[codec_pb2_grpc.CodecServiceStub],
        *,
        metrics: GatewayMetrics,
        max_full: int,
        silence_s: float,
    ) -> None:
        """max_full: how often a recording that a full replica refused is sent again, to another one. silence_s: see
        GrpcEngine.
        """
        self._channel, self._silence_s = channel, silence_s
        self._max_full, self._metrics = max_full, metrics
        self._replicas = KnownReplicas()

    def decode(
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], timeout_s: float
    ) -> AsyncGenerator[codec_pb2.StreamDecodeResponse, None]:
        """The events of StreamDecode, without progress messages.

        gRPC writes `requests` in a separate task, so neither side waits for the other to read. When that task meets
        the end of the call, it cancels the call.
        """

        def call(stub: codec_pb2_grpc.CodecServiceStub) -> Any:
            return stub.StreamDecode(requests, timeout=timeout_s, metadata=call_metadata())

        return messages("CODEC", self._channel, self._replicas, call, self._silence_s)

    async def encode(
        self, config: codec_pb2.StreamEncodeConfig, samples: Samples, timeout_s: float
    ) -> codec_pb2.EncodeResponse:
        complete: codec_pb2.EncodeResponse = await self._send(
            lambda stub: stub.StreamEncode, codec_pb2.StreamEncodeRequest, config, samples, timeout_s
        )
        return complete

    async def detect(
        self, config: codec_pb2.StreamDetectWatermarkConfig, samples: Samples, timeout_s: float
    ) -> codec_pb2.DetectWatermarkResponse:
        message = codec_pb2.StreamDetectWatermarkRequest
        complete: codec_pb2.DetectWatermarkResponse = await self._send(
            lambda stub: stub.StreamDetectWatermark, message, config, samples, timeout_s
        )
        return complete

    async def _send(
        self, method: Callable[[Any], Any], message: Any, config: Any, samples: Samples, timeout_s: float
    ) -> Any:
        """Sends a recording. If a codec is lost or full before it has read samples, another one is tried."""
        until_s, losses = time.monotonic() + timeout_s, 0
        full = FullReplicas(
            self._max_full, lambda what: self._metrics.full_replicas.labels("codec", "load", what).inc()
        )
        async with aclosing(samples):
            while True:
                started = asyncio.Event()
                try:
                    async with calling("CODEC", self._channel, self._replicas) as stub:
                        call = method(stub)(timeout=max(0.0, until_s - time.monotonic()), metadata=call_metadata())
                        return await _sent(call, message, config, samples, started, self._replicas)
                except StageError as error:
                    if started.is_set():
                        raise
                    if error.reason == FULL:
                        if not full.moves_on(error):
                            raise
                    elif losses >= MOST_LOSSES or not is_loss(error):
                        raise
                    else:
                        losses += 1

    async def codec_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> codec_pb2.GetCodecInfoResponse:
        """wait_for_ready: waits for a replica when none is available."""

        def call(stub: codec_pb2_grpc.CodecServiceStub, timeout_s: float) -> Any:
            request = codec_pb2.GetCodecInfoRequest()
            return stub.GetCodecInfo(
                request, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=wait_for_ready
            )

        answer: codec_pb2.GetCodecInfoResponse = await ask(
            "CODEC", self._channel, self._replicas, call, timeout_s, self._silence_s
        )
        return answer


async def _sent(
    call: Any, message: Any, config: Any, samples: Samples, started: asyncio.Event, replicas: KnownReplicas
) -> Any:
    """The response of one call. Sends no samples before the codec has started, for writes could hide the status of a
    refusal.
    """
    try:
        await call.write(message(config=config))
        checked("CODEC", await call.read())  # `started`; raises if the codec refused
        started.set()
        await replicas.note_start(call)
        async for piece in samples:
            if call.done():
                break  # the call has ended; the next read raises its status
            await call.write(message(samples=piece))
        else:
            await call.done_writing()
        answer = await call.read()
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(END_S):
                await call.read()  # the status: a call cancelled before it would count as failed in the codec
    except asyncio.InvalidStateError:  # a write came after the end of the call
        answer = await call.read()
    finally:
        call.cancel()
    if answer is not grpc.aio.EOF and checked("CODEC", answer).HasField("complete"):  # type: ignore[attr-defined]
        return answer.complete
    raise broken("CODEC", "a recording was taken and not answered")
