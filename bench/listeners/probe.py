"""Calls a method that needs no model, again and again. The call's duration shows how busy the server's event loop is
while streams run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

TIMEOUT_S = 10.0


@dataclass(slots=True)
class ProbeRecord:
    """The probes of one run."""

    took_s: list[float] = field(default_factory=list)
    failed: int = 0


async def probe_forever(
    channel: grpc.aio.Channel, interval_s: float, clock: Callable[[], float], record: ProbeRecord
) -> None:
    """Calls GetServerInfo every `interval_s` until it is cancelled."""
    tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
    while True:
        await asyncio.sleep(interval_s)
        asked_s = clock()
        try:
            await tts.GetServerInfo(tts_pb2.GetServerInfoRequest(), timeout=TIMEOUT_S)
            record.took_s.append(clock() - asked_s)
        except grpc.aio.AioRpcError:
            record.failed += 1
