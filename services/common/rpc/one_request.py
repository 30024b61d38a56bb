"""Methods of one request that is received when the method reads it. It knows no service.

The wire is the same for both kinds of methods. A generated handler receives the request before the method runs: a
hundred callers would then have a hundred large requests in memory, though few of them are worked on. The library also
keeps such a request until the call ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

Request = TypeVar("Request")
Method = Callable[[AsyncIterator[Any], Any], Awaitable[Any]]


class OneRequest:
    """A method that takes an iterator of its one request."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(self, requests: AsyncIterator[Any], context: Any) -> Awaitable[Any]:
        return self._method(requests, context)


def add_to_server(service: ServiceDescriptor, read_late: Collection[str]) -> Callable[[Any, grpc.aio.Server], None]:
    """Like the generated function. read_late: methods of one request that take an iterator of it"""

    def add(servicer: Any, server: grpc.aio.Server) -> None:
        handlers = {}
        for method in service.methods:
            behaviour = getattr(servicer, method.name)
            late = method.name in read_late
            asked = "stream" if late or method.client_streaming else "unary"
            answered = "stream" if method.server_streaming else "unary"
            make = getattr(grpc, f"{asked}_{answered}_rpc_method_handler")
            handlers[method.name] = make(
                OneRequest(behaviour) if late else behaviour,
                GetMessageClass(method.input_type).FromString,
                GetMessageClass(method.output_type).SerializeToString,
            )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    return add


async def read_one(requests: AsyncIterator[Request]) -> Request | None:
    """The request of such a method; None when the caller has sent none."""
    return await anext(requests, None)


def is_one_request(handler: grpc.RpcMethodHandler[Any, Any]) -> bool:
    """Whether a handler of streams serves a method of one request."""
    return any(isinstance(part, OneRequest) for part in (handler.stream_unary, handler.stream_stream))
