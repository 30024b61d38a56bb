"""Settings of the HTTP server: where the gateway is, what a request may cost, and names beside those of the gateway."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.setting_types import FilePath, GrpcTarget, is_host_name, is_origin
from services.common.settings import ConnectionStreams, MetricsPort, ProgramSettings, ServingPort, check_pair


class HttpSettings(ProgramSettings):
    """The settings of the HTTP server."""

    model_config = SettingsConfigDict(env_prefix="CSM_HTTP_", cli_prog_name="python -m services.http")

    port: ServingPort = 8000
    metrics_port: MetricsPort = 9463
    metrics_at_api_port: bool = Field(default=True, description="Serve /metrics on the API port too.")

    gateway_target: GrpcTarget = Field(
        default="127.0.0.1:50051",
        description="gRPC target of the gateways, such as dns:///gateway:50051. Calls go to those that report SERVING.",
    )
    gateway_health_target: GrpcTarget = Field(
        default="127.0.0.1:50052", description="gRPC target of the gateways' health port."
    )
    gateway_streams_per_connection: ConnectionStreams = Field(
        default=512,
        description="Most calls at once on one connection to the gateway; a further call opens another connection. Set"
        " it to the gateway's --max-streams-per-connection. 0 is no limit.",
    )
    gateway_tls_ca: FilePath | None = Field(
        default=None, description="PEM file of the gateway's CAs. With it, this server calls the gateway over TLS only."
    )
    gateway_tls_certificate: FilePath | None = Field(
        default=None, description="PEM file of the certificate chain that this server presents to the gateway."
    )
    gateway_tls_key: FilePath | None = Field(
        default=None, description="PEM file of the key of --gateway-tls-certificate, not encrypted."
    )

    voice_aliases: str = Field(
        default="",
        description="Other names of voices: alias=voice, separated by commas. They override OpenAI's names (alloy,"
        " ash, ...), each of which means the gateway's default voice.",
    )
    model_aliases: str = Field(
        default="csm,tts-1,tts-1-hd,gpt-4o-mini-tts",
        description="Names that requests may use for the one model, beside its own; separated by commas.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins whose pages may call this server, such as https://example.org, separated by commas; *"
        " allows all. When empty, only its own pages may.",
    )

    allowed_hosts: str = Field(
        default="",
        description="Names that the header Host may have, separated by commas; * allows all. When empty: only"
        " localhost if --host is a loopback address, otherwise every name. IP addresses are always allowed.",
    )

    page: bool = Field(default=True, description="Serve the page for listening and trying out at /.")

    max_streams: int = Field(
        default=1000, ge=1, le=100_000, description="Most syntheses and WebSockets at once; more are refused with 503."
    )
    max_connections: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Most connections at once; a further one is answered with 503 and closed.",
    )
    max_body_bytes: int = Field(
        default=16 * 2**20,
        ge=1024,
        le=256 * 2**20,
        description="Largest JSON body or WebSocket message, in bytes; --max-bodies-bytes if that is less.",
    )
    max_bodies_bytes: int = Field(
        default=512 * 2**20,
        ge=1024,
        description="Most bytes, over all requests together, of JSON bodies that are in use, of contexts and waiting"
        " texts of WebSockets, and of their messages until they are taken. More are refused with 503.",
    )
    max_upload_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**31,
        description="Largest recording, in bytes, that is searched for the watermark.",
    )
    header_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Seconds that a TLS handshake, a request's headers, or a WebSocket's first message may take.",
    )
    body_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds that a request's body may take."
    )
    keep_alive_seconds: int = Field(
        default=30, ge=1, le=3600, description="Seconds that a connection may be idle between two requests."
    )
    write_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds that audio may wait for a client that does not read; then the stream is broken.",
    )
    websocket_idle_seconds: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        description="Seconds that a WebSocket may send nothing while nothing is being spoken; then it is closed.",
    )
    deadline_seconds: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="Longest time, in seconds, that one request, or one utterance of a WebSocket, may take at the"
        " gateway. The header X-Timeout-Seconds may shorten it.",
    )

    @field_validator("voice_aliases")
    @classmethod
    def _voice_aliases_are_pairs(cls, value: str) -> str:
        aliases = set()
        for pair in comma_separated(value):
            alias, equals, voice = (part.strip() for part in pair.partition("="))
            if not (alias and equals and voice) or alias in aliases:
                raise ValueError("alias=voice, separated by commas, each alias once")
            aliases.add(alias)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _cors_origins_are_origins(cls, value: str) -> str:
        if not all(origin == "*" or is_origin(origin) for origin in comma_separated(value)):
            raise ValueError("* or origins as browsers send them, such as https://example.org, separated by commas")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _allowed_hosts_are_names(cls, value: str) -> str:
        if not all(host == "*" or is_host_name(host) for host in comma_separated(value)):
            raise ValueError("* or names without scheme and port, such as example.org, separated by commas")
        return value

    @property
    def largest_body_bytes(self) -> int:
        """Of a body that is ever taken."""
        return min(self.max_body_bytes, self.max_bodies_bytes)

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        check_pair(self, "gateway_tls_certificate", "gateway_tls_key", needs="gateway_tls_ca")
        return self


def comma_separated(value: str) -> list[str]:
    """The parts of a list in one setting."""
    return [part.strip() for part in value.split(",") if part.strip()]
