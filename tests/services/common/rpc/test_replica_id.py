"""Engines and codecs name themselves in trailing metadata, by which a gateway tells replicas apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from csm_bundle.errors import EngineBusyError
from services.common.rpc import replica_id
from services.common.rpc.server import StageServer, StageService
from services.common.settings import StageSettings

REQUEST = engine_pb2.GetModelInfoRequest()
OF_THE_HANDLER = (("load", "1"),)


class Engine(engine_pb2_grpc.EngineServiceServicer):
    is_full = False

    async def GetModelInfo(self, request: Any, context: Any) -> engine_pb2.GetModelInfoResponse:
        context.set_trailing_metadata(OF_THE_HANDLER)
        if self.is_full:
            raise EngineBusyError("The queue is full.")
        return engine_pb2.GetModelInfoResponse()


@asynccontextmanager
async def engine_stub(engine: Engine, *, for_gateways: bool = True) -> AsyncIterator[Any]:
    service = StageService(engine_pb2_grpc.add_EngineServiceServicer_to_server, engine, "csm.engine.v1.EngineService")
    server = StageServer(StageSettings(host="127.0.0.1"), [service], for_gateways=for_gateways)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield engine_pb2_grpc.EngineServiceStub(channel)  # type: ignore[no-untyped-call]
    await server.drain(0)


async def trailers_of(stub: Any) -> Any:
    call = stub.GetModelInfo(REQUEST)
    await call.code()
    return await call.trailing_metadata()


async def test_a_replica_names_itself_whether_it_answers_or_refuses_and_keeps_the_handlers_trailers() -> None:
    engine = Engine()
    async with engine_stub(engine) as stub, engine_stub(Engine()) as other:
        answered = await trailers_of(stub)
        engine.is_full = True
        refused = await trailers_of(stub)
        assert len(replica_id.of(answered)) == 32
        assert replica_id.of(refused) == replica_id.of(answered) != replica_id.of(await trailers_of(other))
        assert all(OF_THE_HANDLER[0] in trailers for trailers in (tuple(answered), tuple(refused)))


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_gateway_does_not_name_itself_to_its_callers(is_full: bool) -> None:
    engine = Engine()
    engine.is_full = is_full
    async with engine_stub(engine, for_gateways=False) as stub:
        assert replica_id.of(await trailers_of(stub)) == ""
