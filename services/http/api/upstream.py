"""The gateway behind the door: shared channels, and a client for each call with the caller's own token."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from dataclasses import dataclass

from csm_client import AsyncClient, TlsFileError, TlsOptions
from csm_client.channel import Option, is_encrypted, open_async_channel, read_credentials, service_config
from csm_client.credentials import CallMetadata
from csm_client.targets import is_loopback
from starlette.datastructures import Headers

from services.common.followed_files import FollowedFiles
from services.common.rpc.calls import REQUEST_ID_KEY
from services.common.telemetry import logs
from services.http.api.channels import ChannelPool
from services.http.api.errors import ApiError, wrong_field
from services.http.settings import HttpSettings

log = logging.getLogger("csm.http")

TIMEOUT_HEADER = "x-timeout-seconds"
LONGEST_TOKEN = 4096  # gRPC breaks calls whose metadata is longer than 8 to 16 KiB
_TRACE_HEADERS = ("traceparent", "tracestate")
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_PRINTABLE = re.compile(r"[ -~]{1,512}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: what is forwarded to the gateway."""

    token: str | None
    timeout_s: float  # for all calls of one request, or of one utterance of a WebSocket
    trace: CallMetadata = ()

    def since(self, began_s: float) -> Caller:
        """The same caller with the time that is left. began_s: when its request began, by `time.monotonic`"""
        left_s = self.timeout_s - (time.monotonic() - began_s)
        return dataclasses.replace(self, timeout_s=max(left_s, 0.001))


class Upstream:
    """The gateway. The channels are shared; nothing of a caller is kept."""

    def __init__(self, settings: HttpSettings) -> None:
        """Raises TlsFileError."""
        tls: TlsOptions = {
            "tls_ca": settings.gateway_tls_ca,
            "tls_certificate": settings.gateway_tls_certificate,
            "tls_key": settings.gateway_tls_key,
        }
        self._settings = settings
        paths = [settings.gateway_tls_ca, settings.gateway_tls_certificate, settings.gateway_tls_key]
        # A call may open a channel, in the event loop; the files may lie in a file system that does not answer.
        files = FollowedFiles([path for path in paths if path is not None], lambda: read_credentials(tls), TlsFileError)
        self.channels = ChannelPool(
            lambda: open_async_channel(settings.gateway_target, files.current, _channel_options()),
            settings.gateway_streams_per_connection,
        )
        if not is_encrypted(tls) and not is_loopback(settings.gateway_target):
            log.warning("callers' tokens go to %s in plaintext: see --gateway-tls-ca", settings.gateway_target)

    def caller(self, headers: Headers) -> Caller:
        """Raises ApiError for an invalid header."""
        if self._settings.trace_endpoint is not None:  # the span of this request is current, and the client sends it
            return Caller(_token(headers), self._timeout_s(headers))
        trace = tuple((name, headers[name]) for name in _TRACE_HEADERS if _PRINTABLE.fullmatch(headers.get(name, "")))
        return Caller(_token(headers), self._timeout_s(headers), trace)

    def client(self, caller: Caller) -> AsyncClient:
        """A client that calls as `caller`, with the id of the current request. It must not be closed, for the channel
        is shared. Raises TokenError.
        """
        return AsyncClient(
            self._settings.gateway_target,
            timeout_s=caller.timeout_s,
            channel=self.channels,
            metadata=(*caller.trace, (REQUEST_ID_KEY, logs.request_id.get())),
            token=caller.token,
        )

    def client_of(self, headers: Headers) -> AsyncClient:
        """The client of a request's caller. Raises ApiError, TokenError."""
        return self.client(self.caller(headers))

    async def close(self) -> None:
        await self.channels.close()

    def _timeout_s(self, headers: Headers) -> float:
        most_s = self._settings.deadline_seconds
        asked = headers.get(TIMEOUT_HEADER)
        if asked is None:
            return most_s
        if not _NUMBER.fullmatch(asked) or float(asked) <= 0:
            why = f"is '{asked[:100]}'; it must be a number of seconds above 0, such as 2.5."
            raise wrong_field(TIMEOUT_HEADER, why)
        return min(float(asked), most_s)


def _channel_options() -> list[Option]:
    """The options beside the client's own."""
    return [
        ("grpc.service_config", service_config(watched=True)),  # also where a name has several addresses
        # By default gRPC lets megabytes of a stream come ahead, and then for long no more: the gateway would take a
        # caller that reads as it plays for one that does not read. Without its probes it lets 64 KiB come ahead.
        ("grpc.http2.bdp_probe", 0),
    ]


def _token(headers: Headers) -> str | None:
    value = headers.get("authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token.strip() or len(token) > LONGEST_TOKEN:
        raise ApiError(
            401,
            "The header Authorization must be: Bearer TOKEN.",
            kind="authentication_error",
            code="credential_invalid",
        )
    return token.strip()
