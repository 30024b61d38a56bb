"""Settings of the all-in-one server. What is not here, the stages read from their own variables
(CSM_ENGINE_MAX_WAITING, CSM_CODEC_LANE_WIDTH, CSM_GATEWAY_MAX_TEXT_LENGTH, ...). Importing it loads no torch.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.codec.settings import CodecSettings
from services.common.bundle_settings import BundleSettings
from services.common.process.cpus import usable_cpus
from services.common.setting_types import FilePath, Host
from services.common.settings import (
    ConnectionStreams,
    HealthPort,
    MetricsPort,
    ProgramSettings,
    ServingPort,
    StageSettings,
    check_ports,
)
from services.engine.settings import EngineSettings
from services.gateway.settings import GatewaySettings
from services.http.settings import HttpSettings

LOOPBACK = "127.0.0.1"
_SLOTS_OF_A_CPU, _MOST_SLOTS = 4, 16  # the wait of the fifth caller against the pace of all (docs/measured.md)
_BUNDLE_FIELDS = set(BundleSettings.model_fields) - set(StageSettings.model_fields)
_OF_ALL = {"drain_seconds", "log_format", "log_level", "trace_endpoint", "trace_sample_share"}


class AllInOneSettings(BundleSettings):
    """The settings of the all-in-one server."""

    model_config = SettingsConfigDict(env_prefix="CSM_ALL_IN_ONE_", cli_prog_name="python -m services.all_in_one")

    host: Host = Field(default=LOOPBACK, description="Address to listen on.")
    port: ServingPort = 50051
    health_port: HealthPort = 50052
    metrics_port: MetricsPort = 9460
    max_streams_per_connection: ConnectionStreams = 512
    http_host: Host = Field(default=LOOPBACK, description="Address that the HTTP server listens on.")
    http_port: int = Field(
        default=8000, ge=-1, le=65535, description="Port of the HTTP server; 0 takes a free port, -1 turns it off."
    )
    random_weights: bool = Field(
        default=False,
        description="Run with seeded random weights of the bundle's shapes. The speech is noise; use it for load"
        " tests.",
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where engine and codec run.")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Type of the weights of engine and codec; use bfloat16 on a GPU."
    )
    slots: int = Field(
        default=0,
        ge=0,
        le=4096,
        description=f"Utterances that are made at once. 0 is {_SLOTS_OF_A_CPU} for each CPU that the process may use,"
        f" at most {_MOST_SLOTS}.",
    )
    lexicon: FilePath | None = Field(
        default=None,
        description="File of words and their pronunciation, one per line (docs/text.md). When unset, the engine's own"
        " setting.",
    )
    watermark_keyring: FilePath | None = Field(
        default=None,
        description="File of the watermark keys. The keys that seal codes and the voices that callers keep are stored"
        " in the same folder. When unset, each stage's own setting.",
    )

    @model_validator(mode="after")
    def _http_port_differs(self) -> Self:
        if self.http_host == self.host:
            check_ports(self, "port", "health_port", "metrics_port", "http_port")
        return self

    def engine(self) -> EngineSettings:
        return EngineSettings(**self.of_engine())

    def codec(self) -> CodecSettings:
        return CodecSettings(**self.of_codec())

    def gateway(self, **targets: str) -> GatewaySettings:
        """targets: engine_target and the others that GatewaySettings has"""
        return GatewaySettings(**(self.of_gateway() | targets))

    def http(self, **targets: str) -> HttpSettings:
        """targets: gateway_target and gateway_health_target"""
        return HttpSettings(**(self.of_http() | targets))

    def of_engine(self) -> dict[str, Any]:
        """What it sets of the engine itself. The rest is read from the engine's variables."""
        lexicon = {} if self.lexicon is None else {"lexicon": self.lexicon}
        return self._inner() | lexicon | {"random_weights": self.random_weights}

    def of_codec(self) -> dict[str, Any]:
        keyring = {} if self.watermark_keyring is None else {"watermark_keyring": self.watermark_keyring}
        return self._inner() | keyring

    def of_gateway(self) -> dict[str, Any]:
        values = self.model_dump(include=set(StageSettings.model_fields) | {"max_streams_per_connection"})
        plaintext = dict.fromkeys(("stage_tls_ca", "stage_tls_certificate", "stage_tls_key"))  # they are on loopback
        if self.watermark_keyring is not None:
            values["code_sealing_keyring"] = self.watermark_keyring.with_name("code_sealing_keys.json")
            values["voices_database"] = str(self.watermark_keyring.with_name("voices.sqlite"))
        return values | plaintext | {"max_full_replicas": 0}  # there is one engine, and one codec

    def of_http(self) -> dict[str, Any]:
        values = self.model_dump(include=set(ProgramSettings.model_fields) - {"host", "port", "metrics_port"})
        own: dict[str, Any] = {"host": self.http_host, "port": self.http_port, "metrics_port": -1}
        own["gateway_streams_per_connection"] = self.max_streams_per_connection
        return values | own | dict.fromkeys(("gateway_tls_ca", "gateway_tls_certificate", "gateway_tls_key"))

    def _inner(self) -> dict[str, Any]:
        """The settings that engine and codec share. Ports are free ones, known only inside the process."""
        return {
            **self.model_dump(include=_BUNDLE_FIELDS | {"device", "dtype"}, exclude_none=True),
            "slots": self.slots or min(_SLOTS_OF_A_CPU * usable_cpus(), _MOST_SLOTS),
            "host": LOOPBACK,
            "port": 0,
            "health_port": 0,
            "metrics_port": -1,
            "max_connection_age_seconds": 0,  # there is no other replica to find
            **self.model_dump(include=_OF_ALL),
            **dict.fromkeys(("tls_certificate", "tls_key", "tls_client_ca")),  # they are on loopback
        }
