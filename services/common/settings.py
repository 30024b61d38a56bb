"""Settings of a program: command-line flags over environment variables over defaults, checked before anything starts.

Each gRPC stage subclasses `StageSettings`, any other program `ProgramSettings`, and adds its own fields. A field's
description is its line in `--help`, so the class is the reference. This module knows no stage.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict

from services.common.former_names import FormerVariables, flag_of, renamed_flags, variable_of
from services.common.setting_types import FilePath, Host, is_server

log = logging.getLogger("csm.settings")

# Annotated types, so that a stage can change a default and keep the description and the bounds.
ServingPort = Annotated[int, Field(ge=0, le=65535, description="Port of the API; 0 takes a free port.")]
HealthPort = Annotated[
    int,
    Field(ge=0, le=65535, description="Port of grpc.health.v1, always in plaintext; 0 takes a free port."),
]
MetricsPort = Annotated[
    int,
    Field(ge=-1, le=65535, description="Port of the Prometheus metrics; 0 takes a free port, -1 turns them off."),
]
ReceiveLimit = Annotated[
    int, Field(ge=1024, le=256 * 2**20, description="Largest request message, in bytes; a larger one is refused.")
]
# Of engine and codec: gateways send pieces of recordings, and the codes of whole contexts.
StageReceiveLimit = Annotated[
    int, Field(ge=2**20, le=256 * 2**20, description="Largest request message, in bytes; a larger one is refused.")
]
ConnectionStreams = Annotated[
    int, Field(ge=0, le=100_000, description="Most calls at once on one connection; further calls wait. 0 is no limit.")
]
ConnectionAge = Annotated[
    int,
    Field(
        ge=0,
        le=86400,
        description="Age in seconds at which a connection takes no new calls; it closes when its running calls have"
        " ended. Clients then look the name up again and find new replicas. 0 keeps connections open.",
    ),
]


class ProgramSettings(BaseSettings):
    """The settings of every server program."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_show_env_vars=True,
        cli_avoid_json=True,
        cli_exit_on_error=True,
        cli_parse_none_str="\0",  # no argument has it: by default "None" unsets a setting, and --auth-tokens-file too
        env_prefix="CSM_",
        protected_namespaces=(),
    )
    # Former field -> field; flag and variable still work, with a warning.
    former_names: ClassVar[Mapping[str, str]] = {}

    host: Host = Field(default="0.0.0.0", description="Address to listen on.")
    port: ServingPort = 0
    metrics_port: MetricsPort = -1
    log_format: Literal["text", "json"] = Field(
        default="text", description="Format of the log: one line per event, as text or as JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    drain_seconds: float = Field(
        default=330.0,
        ge=0,
        le=3600,
        description="Seconds that running calls have to end after SIGTERM; then they are cut off.",
    )
    tls_certificate: FilePath | None = Field(
        default=None,
        description="PEM file of the API port's certificate chain. With it and --tls-key the port speaks TLS only.",
    )
    tls_key: FilePath | None = Field(
        default=None, description="PEM file of the key of --tls-certificate, not encrypted."
    )
    tls_client_ca: FilePath | None = Field(
        default=None,
        description="PEM file of the CAs of client certificates. With it, clients without such a certificate are"
        " refused.",
    )

    trace_endpoint: str | None = Field(
        default=None,
        description="Collector that receives traces over OTLP/gRPC, such as http://collector:4317, or https://... for"
        " TLS. When unset, nothing is traced.",
    )
    trace_sample_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the traces beginning at this program that is sent, 0 to 1. For a trace that a caller"
        " began, the caller decides.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In order of precedence: arguments, environment variables, variables under former names."""
        return init_settings, env_settings, FormerVariables(settings_cls, cls.former_names)

    @field_validator("trace_endpoint")
    @classmethod
    def _trace_endpoint_is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not is_server(endpoint):
            raise ValueError("http://HOST:PORT or https://HOST:PORT")
        return endpoint

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        check_ports(self, "port", "health_port", "metrics_port")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        check_pair(self, "tls_certificate", "tls_key")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("--tls-client-ca needs --tls-certificate and --tls-key.")
        return self


class StageSettings(ProgramSettings):
    """The settings of every gRPC stage."""

    health_port: HealthPort = 0
    reflection: bool = Field(default=True, description="Offer gRPC server reflection on the API and health ports.")
    max_receive_message_bytes: ReceiveLimit = 16 * 2**20
    max_connection_age_seconds: ConnectionAge = 300


def check_pair(settings: ProgramSettings, first: str, second: str, *, needs: str = "") -> None:
    """Raises ValueError unless both fields are set or neither, and with them the one that they need."""
    both = f"{flag_of(first)} and {flag_of(second)}"
    is_set = getattr(settings, first) is not None
    if is_set != (getattr(settings, second) is not None):
        raise ValueError(f"{both} must be given together.")
    if needs and is_set and getattr(settings, needs) is None:
        raise ValueError(f"{both} need {flag_of(needs)}.")


def check_ports(settings: ProgramSettings, *fields: str) -> None:
    """Raises ValueError if two fields, of those that the program has, are the same port; 0 and -1 are none."""
    flags: dict[int, str] = {}
    for field in fields:
        port = getattr(settings, field, 0)
        if port > 0 and flags.setdefault(port, flag_of(field)) != flag_of(field):
            raise ValueError(f"{flags[port]} and {flag_of(field)} are both {port}; they must differ.")


S = TypeVar("S", bound=ProgramSettings)


def load_settings(settings_class: type[S], arguments: Sequence[str] | None = None) -> S:
    """Settings from `arguments` (the command line when None) and the environment.

    Bad values end the process with a sentence for each and exit code 2. Variables that there are not are logged.
    """
    argument_list = sys.argv[1:] if arguments is None else list(arguments)
    try:
        settings = CliApp.run(settings_class, cli_args=renamed_flags(argument_list, settings_class.former_names))
    except ValidationError as error:
        sys.stderr.write(describe_bad_settings(settings_class, error))
        raise SystemExit(2) from None
    log_unknown_variables(settings_class, listed_by="--help")
    return settings


def log_unknown_variables(settings_class: type[ProgramSettings], listed_by: str) -> None:
    """listed_by: what lists all variables"""
    for variable in unknown_variables(settings_class):
        log.warning("%s is set, but no setting has this variable; %s lists all variables", variable, listed_by)


def unknown_variables(settings_class: type[ProgramSettings]) -> list[str]:
    """Environment variables with the program's prefix that are no setting, such as misspelled ones."""
    prefix = settings_class.model_config.get("env_prefix", "")
    names = (*settings_class.model_fields, *settings_class.former_names)
    known = {variable_of(settings_class, name).upper() for name in names}
    return sorted(name for name in os.environ if name.upper().startswith(prefix) and name.upper() not in known)


_RULES = {"string_too_short": "at least one character long"}  # what is allowed, where pydantic's text does not fit in


def describe_bad_settings(settings_class: type[ProgramSettings], error: ValidationError, of: str = "") -> str:
    """One line per bad value: the flag, the variable, what is allowed and what was given. of: what the settings are of,
    where that is not plain.
    """
    begin = f"error: {of}: " if of else "error: "
    lines = []
    for problem in error.errors(include_url=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        rule = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if not field:
            lines.append(f"{begin}{rule}\n")
            continue
        name = f"{flag_of(field)} ({variable_of(settings_class, field)})"
        rule = _RULES.get(problem["type"], rule)
        if problem["type"] == "missing":
            lines.append(f"{begin}{name} must be given.\n")
        else:
            lines.append(f"{begin}{name} must be {rule}, but was given {problem['input']!r}.\n")
    return "".join(lines)


@dataclass(frozen=True, slots=True)
class SettingName:
    """How one setting is spelled on the command line and in the environment."""

    field: str
    flag: str  # "--health-port"
    variable: str  # "CSM_ENGINE_HEALTH_PORT"


def setting_names(settings_class: type[ProgramSettings]) -> list[SettingName]:
    """Every setting of a program; manifests and Dockerfiles are compared against it."""
    return [SettingName(name, flag_of(name), variable_of(settings_class, name)) for name in settings_class.model_fields]


def host_and_port(host: str, port: int) -> str:
    """An address such as [::1]:50051 or 127.0.0.1:50051."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_host(host: str) -> str:
    """The address to call where `host` is listened on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
