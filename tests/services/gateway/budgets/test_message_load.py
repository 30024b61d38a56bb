"""Callers that send most of a large message and then nothing: the gateway's memory and other callers bear it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from tests.services.gateway.budgets.limited_gateway import MEMORY_LIMIT_BYTES, MIB, limited_gateway, peak_rss_bytes
from tests.support.fake_stages import FakeCodec, FakeEngine

TEXT = "/csm.v1.TextToSpeechService/StreamSynthesizeText"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def first_message() -> tts_pb2.StreamSynthesizeTextRequest:
    message = tts_pb2.StreamSynthesizeTextRequest()
    message.config.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    return message


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("path", "first"), [(TEXT, [first_message().SerializeToString().hex()]), (REFLECTION, [])])
async def test_a_hundred_half_sent_messages_of_16_mb_do_not_end_another_caller_s_text(
    tmp_path: Path, path: str, first: list[str]
) -> None:
    """The other caller waits for its words just as long. The halves come from another address than its calls."""
    async with limited_gateway(tmp_path, FakeCodec(), FakeEngine()) as (process, target):
        async with grpc.aio.insecure_channel(target) as channel:
            tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
            goes_on = asyncio.Event()

            async def messages() -> AsyncIterator[tts_pb2.StreamSynthesizeTextRequest]:
                yield first_message()
                await goes_on.wait()
                yield tts_pb2.StreamSynthesizeTextRequest(text=tts_pb2.TextPiece(text="Hello."))

            text = tts.StreamSynthesizeText(messages(), wait_for_ready=True, timeout=100)
            await text.wait_for_connection()
            sending = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.network.half_messages", target, "127.0.0.2", path, "100"),
                *(str(16 * MIB), *first),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert sending.stdin is not None and sending.stdout is not None
            print(int(await sending.stdout.readline()) / MIB, "MiB taken", peak_rss_bytes(process) / MIB, "MiB at most")
            goes_on.set()
            answers = [answer async for answer in text]
            assert answers[-1].HasField("summary")
            sending.stdin.close()
            print(await sending.stdout.read(), "ended")
            assert process.poll() is None and peak_rss_bytes(process) < MEMORY_LIMIT_BYTES
