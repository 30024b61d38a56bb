"""The interceptor of every RPC of a stage: request id, span, one log line, counters, and errors with details.

Handlers raise `StatusError` or an error of the library. Any other error becomes INTERNAL without its cause. Cancels
and passed deadlines are counted as such. It knows no service.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health

from csm_bundle.errors import CsmError
from services.common.outcomes import is_task_cancelled
from services.common.rpc import replica_id, status
from services.common.rpc.incoming.gate import Gate
from services.common.rpc.incoming.lingering import is_caller_gone, lingering
from services.common.rpc.incoming.memory_guard import UNGUARDED, MemoryGuard
from services.common.rpc.incoming.one_request import is_one_request
from services.common.rpc.messages import checked, tolerant
from services.common.telemetry import logs, spans
from services.common.telemetry.metrics import StageMetrics
from services.common.telemetry.spans import CallMetadata, CallSpan, Tracer

log = logging.getLogger("csm.rpc")

REQUEST_ID_KEY = "x-request-id"
EARLY_S = 0.25  # the caller's deadline may pass this much before ours, which began when the request arrived

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]
caller_name = ContextVar("caller_name", default="")  # of the running call, as `admit` gave it

Admit = Callable[[str, CallMetadata], str]  # method and metadata -> name of the caller; raises StatusError


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every RPC of a server from start to end."""

    def __init__(
        self,
        metrics: StageMetrics | None,
        admit: Admit | None = None,
        tracer: Tracer | None = None,
        *,
        guard: MemoryGuard,
        replica: str = "",
    ) -> None:
        """metrics: None neither counts nor logs well-formed calls, for probes; admit: authenticates a call before any
        of its messages is read; None admits all; guard: for client-streaming calls; replica: id that the caller of
        each counted call gets; "" sends none
        """
        self._guard, self._replica = guard, replica
        self._metrics = metrics
        self._tracer = tracer
        self._admit = admit
        self._drain: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gate = Gate()  # of all calls but those of the health service
        self.num_running = 0  # calls with a running handler, without those of the health service

    def drain(self) -> None:
        """Tells the calls that the server drains. May be called twice."""
        if not self._drain.done():
            self._drain.set_result(None)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # the library answers UNIMPLEMENTED
        method = handler_call_details.method
        kind = _kind_of(handler)
        caller = ""
        if self._admit is not None:
            try:
                caller = self._admit(method, handler_call_details.invocation_metadata or ())
            except status.StatusError as error:
                # A streaming handler: for others gRPC would read the request first.
                refusing = _refusing(error)
                if handler.request_streaming and not is_one_request(handler):
                    refusing = lingering(refusing, self._drain, self._guard)
                refuse = self._watch(kind, method, refusing)
                return grpc.stream_stream_rpc_method_handler(refuse, tolerant(bytes))
        one = is_one_request(handler)
        requests = "stream" if handler.request_streaming else "unary"
        responses = "stream" if handler.response_streaming else "unary"
        behavior = getattr(handler, f"{requests}_{responses}")
        if handler.response_streaming:
            behavior = _writing(behavior, self._replica)
        if not method.startswith(f"/{health.SERVICE_NAME}/"):
            behavior = self.gate.before(behavior)
        if handler.request_streaming:
            guard = UNGUARDED if one else self._guard  # single requests have their own limits (OneRequest's `receive`)
            behavior = lingering(behavior, self._drain, guard, caller, one_request=one)
        make = getattr(grpc, f"{requests}_{responses}_rpc_method_handler")
        watched = self._watch(kind, method, behavior, caller)
        return make(watched, tolerant(handler.request_deserializer), handler.response_serializer)

    def _watch(self, kind: str, method: str, handler: Handler, caller: str = "") -> Handler:
        service, name = method.lstrip("/").rsplit("/", 1)
        metrics, counts = self._metrics, service != health.SERVICE_NAME

        async def probed(request: Any, context: Context) -> Any:
            try:
                return await handler(checked(request), context)
            except status.StatusError as error:
                log.info("call refused", extra=logs.fields_extra({"method": method, "reason": error.reason}))
                await status.abort(context, error)
            except NotImplementedError:
                await status.abort(context, status.unimplemented())

        async def watched(request: Any, context: Context) -> Any:
            assert metrics is not None
            span = self._begin_span(service, name, context)
            call = _Call(metrics, (kind, service, name), context, span, self._replica)
            caller_name.set(caller)
            if caller:
                logs.annotate(caller=caller)
            self.num_running += counts
            try:
                return await call.run(handler, request)
            finally:
                self.num_running -= counts

        return probed if metrics is None else watched

    def _begin_span(self, service: str, name: str, context: Context) -> CallSpan:
        if self._tracer is None:
            return spans.NO_SPAN
        return self._tracer.begin(service, name, tuple(context.invocation_metadata() or ()))


class _Call:
    """One RPC: runs the handler, turns failures into statuses, and reports the outcome."""

    def __init__(
        self, metrics: StageMetrics, labels: tuple[str, str, str], context: Context, span: CallSpan, replica: str
    ) -> None:
        self._metrics, self._replica = metrics, replica
        self._labels = labels
        self._context = context
        self._started_s = time.monotonic()
        self._span = span
        spans.enter(span)
        logs.request_id.set(_request_id_of(context))
        self._fields = logs.begin_call_fields()

    async def run(self, handler: Handler, request: Any) -> Any:
        self._metrics.started.labels(*self._labels).inc()
        try:
            response = await _run_and_forget(handler, checked(request), self._context)
        except asyncio.CancelledError as error:
            if is_task_cancelled():
                self._caller_gone()
                raise
            # Something that it waited for was cancelled. gRPC would send no status: the caller would wait in vain.
            log.error("%s was cancelled from within", self._labels[2], exc_info=error)
            await self._fail(status.internal())
        except grpc.aio.AbortError:
            code = self._context.code()
            self._end(code, code.name)
            raise
        except status.StatusError as error:
            await self._fail(error)
        except NotImplementedError:  # raised by the generated base class for a method that the servicer lacks
            await self._fail(status.unimplemented())
        except CsmError as error:
            answer = status.from_library_error(error)
            if answer.code is grpc.StatusCode.INTERNAL:
                log.error("%s failed", self._labels[2], exc_info=error)
            await self._fail(answer)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a panic of a Rust library is no Exception, and gRPC would not answer
            if is_caller_gone(error):
                self._caller_gone()
                raise asyncio.CancelledError from None  # gRPC logs any other exception as a bug
            log.error("%s failed", self._labels[2], exc_info=error)
            await self._fail(status.internal())
        else:
            self._name_replica()
            self._end(self._context.code() or grpc.StatusCode.OK, "")
            return response

    async def _fail(self, error: status.StatusError) -> NoReturn:
        self._end(error.code, error.reason)
        self._name_replica()
        try:
            await status.abort(self._context, error)
        except grpc.aio.InternalError:  # the caller is gone
            raise asyncio.CancelledError from None

    def _name_replica(self) -> None:
        if self._replica:
            replica_id.add(self._context, self._replica)

    def _caller_gone(self) -> None:
        remaining_s = self._context.time_remaining()
        if remaining_s is not None and remaining_s <= EARLY_S:
            self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        else:
            self._end(grpc.StatusCode.CANCELLED, "CANCELLED")

    def _end(self, code: grpc.StatusCode, reason: str) -> None:
        seconds = time.monotonic() - self._started_s
        self._metrics.handled.labels(*self._labels, code.name).inc()
        self._metrics.handling_seconds.labels(*self._labels).observe(seconds)
        fields: dict[str, logs.LogValue] = {
            "method": "/".join(self._labels[1:]),
            "peer": self._context.peer(),
            "code": code.name,
            "reason": reason,
            "duration_ms": round(seconds * 1000, 1),
        }
        log.log(self._level(code), "call ended", extra=logs.fields_extra(fields | self._fields))
        self._span.end(code, reason, {"request_id": logs.request_id.get()} | self._fields)

    def _level(self, code: grpc.StatusCode) -> int:
        """DEBUG for the health service, which gateways call on every new connection; otherwise INFO."""
        watched = self._labels[1] == health.SERVICE_NAME and code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
        return logging.DEBUG if watched else logging.INFO


async def _run_and_forget(handler: Handler, request: Any, context: Context) -> Any:
    """Runs the handler, and clears the frames of its exception: they may be in a reference cycle and hold large
    requests.
    """
    try:
        return await handler(request, context)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _request_id_of(context: Context) -> str:
    """The id that the caller sent in metadata, when it is a UUID; a new one otherwise."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and is_uuid(str(value)):
            return str(value)
    return str(uuid.uuid4())


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its usual 36 characters."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _kind_of(handler: Any) -> str:
    """The type of an RPC, as go-grpc-prometheus names it."""
    if handler.request_streaming and not is_one_request(handler):
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


def _refusing(error: status.StatusError) -> Handler:
    async def refuse(request: Any, context: Context) -> NoReturn:
        raise error

    return refuse


def _writing(handler: Callable[[Any, Context], Any], replica: str) -> Handler:
    """A streaming handler that writes to its context. Converts one that is an async generator.

    replica: as in CallInterceptor.
    A cancellation then reaches the generator as CancelledError at once, not when it is garbage collected.
    """

    async def write_all(request: Any, context: Context) -> None:
        if replica:
            await replica_id.send(context, replica)
        result = handler(request, context)
        if isinstance(result, AsyncIterator):
            async with aclosing(result) as responses:  # type: ignore[type-var]
                async for response in responses:
                    await context.write(response)
        else:
            await result

    return write_all
