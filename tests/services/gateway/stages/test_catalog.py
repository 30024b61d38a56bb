"""What the gateway caches of its stages' info, and when it drops it."""

from __future__ import annotations

import asyncio

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.gateway.stages.catalog import CatalogSource
from tests.support.fake_stages import FakeCodec, FakeEngine


class Stages:
    """An engine and a codec, asked one after the other, which answer when the test lets them."""

    def __init__(self) -> None:
        self.engine, self.codec = FakeEngine(), FakeCodec()
        self.may_answer = asyncio.Event()
        self.num_asked = 0

    async def model_info(
        self, timeout_s: float, *, wait_for_ready: bool = False, conversation: str = ""
    ) -> engine_pb2.GetModelInfoResponse:
        self.num_asked += 1
        answer = engine_pb2.GetModelInfoResponse()
        answer.CopyFrom(self.engine.info)
        await self.may_answer.wait()
        return answer

    async def codec_info(self, timeout_s: float, *, wait_for_ready: bool = False) -> codec_pb2.GetCodecInfoResponse:
        return self.codec.info


async def test_an_answer_in_flight_during_a_reset_is_not_cached() -> None:
    stages = Stages()
    catalogs = CatalogSource(stages, stages)
    asking = asyncio.create_task(catalogs.get(1.0))
    while not stages.num_asked:
        await asyncio.sleep(0)
    stages.engine.info.model_version = "fake/2"
    catalogs.forget()
    stages.may_answer.set()
    assert (await asking).model.model_version == "fake/1"
    assert (await catalogs.get(1.0)).model.model_version == "fake/2"
    assert (await catalogs.get(1.0)).model.model_version == "fake/2" and stages.num_asked == 2
