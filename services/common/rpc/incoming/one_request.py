"""Unary-request methods that receive their request when they read it. It knows no service.

A generated handler receives the request before the method runs, so a hundred callers would have a hundred large
requests in memory before any limit applies. gRPC also keeps such a request until the call ends. So these methods are
registered as client-streaming ones, which look the same on the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

Method = Callable[[AsyncIterator[Any], Any], Awaitable[Any]]
Receive = Callable[[Any, Any], AbstractAsyncContextManager[Any]]  # requests, context -> the request


class OneRequest:
    """A method that gets an iterator over its one request."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(self, requests: AsyncIterator[Any], context: Any) -> Awaitable[Any]:
        return self._method(requests, context)


def add_to_server(
    service: ServiceDescriptor, read_late: Collection[str], receive: Receive
) -> Callable[[Any, grpc.aio.Server], None]:
    """A replacement of the generated `add_XServicer_to_server`.

    read_late: unary-request methods that get an iterator and read it themselves. receive: receives the request for the
    other unary-request methods.
    """

    def add(servicer: Any, server: grpc.aio.Server) -> None:
        handlers = {}
        for method in service.methods:
            behaviour = getattr(servicer, method.name)
            if not method.client_streaming:
                late = method.name in read_late
                behaviour = OneRequest(behaviour if late else _receiving(behaviour, receive))
            response_kind = "stream" if method.server_streaming else "unary"
            make = getattr(grpc, f"stream_{response_kind}_rpc_method_handler")
            handlers[method.name] = make(
                behaviour,
                GetMessageClass(method.input_type).FromString,
                GetMessageClass(method.output_type).SerializeToString,
            )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    return add


def _receiving(method: Callable[[Any, Any], Awaitable[Any]], receive: Receive) -> Method:
    async def receive_and_run(requests: AsyncIterator[Any], context: Any) -> Any:
        async with receive(requests, context) as request:
            return await method(request, context)

    return receive_and_run


def is_one_request(handler: grpc.RpcMethodHandler[Any, Any]) -> bool:
    """Whether a streaming handler serves a unary-request method."""
    return any(isinstance(part, OneRequest) for part in (handler.stream_unary, handler.stream_stream))
