"""Server reflection in both versions: v1alpha from grpcio-reflection, and v1, which that library does not have.

The messages of the two are the same on the wire (grpc/reflection/v1/reflection.proto), so one servicer answers both.
Only v1alpha is listed, as the descriptors of v1 are not there. Callers need no token, so a call has a time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from services.common.rpc.status import StatusError

MOST_S = 60.0  # of one call; it takes milliseconds, and tools that keep it open make a new one

_V1 = "grpc.reflection.v1.ServerReflection"


class _Servicer(reflection.aio.ReflectionServicer):  # type: ignore[name-defined, misc]  # the stubs lack it
    async def ServerReflectionInfo(self, requests: AsyncIterator[Any], context: Any) -> None:
        try:
            async with asyncio.timeout(MOST_S):
                async for response in super().ServerReflectionInfo(requests, context):
                    await context.write(response)
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise StatusError(code, code.name, f"A call of reflection may take {MOST_S:g} s.") from None


def enable_reflection(service_names: Iterable[str], server: grpc.aio.Server) -> None:
    """service_names: full names, "csm.v1.TextToSpeechService" """
    servicer = _Servicer([*service_names, reflection.SERVICE_NAME])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))
