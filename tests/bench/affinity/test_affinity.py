"""The parts of `python -m bench.affinity` that need no model: the name server, and conversations over two gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from csm_client import AsyncClient

from bench.affinity.turns import Conversations, named, passes_by, scattered, unnamed
from services.common.rpc.channels.opening import ROUND_ROBIN, open_channel
from services.gateway.stages.balancing import BY_CONVERSATION, CONVERSATION_HEADER
from tests.support.fake_deployment import fake_deployment
from tests.support.network.name_server import name_server
from tests.support.network.ports import free_ports

ADDRESSES = ["127.0.0.41", "127.0.0.42", "127.0.0.43"]


@asynccontextmanager
async def serving(address: str, port: int) -> AsyncIterator[None]:
    """A replica that answers with its address, and whose connections live for a second."""

    async def answer(request: bytes, context: object) -> bytes:
        return address.encode()

    server = grpc.aio.server(options=[("grpc.max_connection_age_ms", 1000), ("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Replica", {"Ask": handler}),))
    server.add_insecure_port(f"{address}:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


async def found(ask: Any) -> set[bytes]:
    """The replicas that answer to forty keys."""
    keys = [((CONVERSATION_HEADER, str(number)),) for number in range(40)]
    return {await answer(ask, key) for key in keys}


async def answer(ask: Any, key: tuple[tuple[str, str]]) -> bytes:
    """Retries, as a gateway does, when the connection reaches its maximal age during the call."""
    for _ in range(3):
        try:
            return bytes(await ask(b"", timeout=10, metadata=key))
        except grpc.aio.AioRpcError as error:
            if "max_age" not in (error.details() or ""):
                raise
    raise AssertionError("Three connections in a row came of age.")


async def test_a_replica_that_joins_the_name_gets_calls_without_a_new_channel() -> None:
    """By the age of connections."""
    with free_ports(1) as (port,):
        async with AsyncExitStack() as stack:
            for address in ADDRESSES:
                await stack.enter_async_context(serving(address, port))
            names = stack.enter_context(name_server([]))
            for policy in (ROUND_ROBIN, BY_CONVERSATION):
                names.addresses = ADDRESSES[:2]
                async with open_channel(names.target(port), policy=policy) as channel:
                    ask = channel.unary_unary("/test.Replica/Ask", None, None)

                    assert await found(ask) == {address.encode() for address in ADDRESSES[:2]}
                    names.addresses = ADDRESSES
                    async with asyncio.timeout(30):
                        while await found(ask) != {address.encode() for address in ADDRESSES}:
                            await asyncio.sleep(0.1)


async def test_turns_build_on_each_other_and_alternate_between_gateways() -> None:
    async with fake_deployment() as one, fake_deployment() as other:
        clients = [AsyncClient(deployment.target) for deployment in (one, other)]
        conversations = Conversations("Talk", 3, clients, named, 0.32)
        records = await conversations.go_on(4)
        assert [len(deployment.engine.calls) for deployment in (one, other)] == [6, 6]
        assert {(record.conversation, record.turn) for record in records} == {
            (c, t) for c in range(3) for t in range(4)
        }
        assert not any(record.error for record in records)
        calls = [call.request for deployment in (one, other) for call in deployment.engine.calls]
        last = [request.segments for request in calls if len(request.segments) == 4]
        assert [[part.codes.frame_count for part in segments] for segments in last] == [[4, 4, 4, 0]] * 3
        assert len({record.digest for record in records}) == 1  # the fakes say the same whatever the words

        other.engine.refusal = RuntimeError("scripted")
        failed = [record for record in await conversations.go_on(2) if record.error]
        assert len(failed) == 3
        for client in clients:
            await client.close()


def test_each_arm_has_its_own_conversation_ids() -> None:
    assert named(3, 0) == named(3, 1) != named(4, 0)
    assert len({scattered(c, t) for c in range(3) for t in range(3)}) == 9
    assert unnamed(3, 1) == passes_by(3, 0) == ""
    assert passes_by(3, 1) != passes_by(3, 1)
