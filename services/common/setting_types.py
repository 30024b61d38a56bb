"""Types of settings: what a path, a host, a gRPC target or a URL must be. They read no file and ask no name service."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

_SCHEMES_OF_GRPC = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds", "google-c2p")
_OF_ADDRESSES = ("dns", "ipv4", "ipv6")
_ADDRESS = re.compile(r"(?:\[[^\[\]]+\]|[^:\[\]]+)(?::(?:([0-9]{1,9})|https?))?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^A-Z/?#@\s]+")  # also of applications, such as capacitor://localhost
_TARGET = "a gRPC target, such as engine:50061 or dns:///engine:50061"


def _not_empty(path: object) -> object:
    """An empty path would be the working directory."""
    if path == "":
        raise ValueError("a path")
    return path


def _in_a_home(path: Path) -> Path:
    try:
        return expanded(path)
    except OSError:
        raise ValueError("a path whose ~ has a home directory") from None


def expanded(path: Path) -> Path:
    """The path with the home directory in place of ~, also for a default. Raises OSError for a user without one."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise OSError(f"{path}: there is no home directory for its ~.") from None


FilePath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_in_a_home)]


def _without_brackets(host: str) -> str:
    bare = host.removeprefix("[").removesuffix("]")
    if not bare:
        raise ValueError("an address or a name")
    return bare


Host = Annotated[str, Field(min_length=1), AfterValidator(_without_brackets)]


def _target(target: str) -> str:
    """Refuses what gRPC would look up, without success and in silence, as the name of a host."""
    scheme, colon, rest = target.partition(":")
    if not target.isprintable() or " " in target or ("://" in target and scheme not in _SCHEMES_OF_GRPC):
        raise ValueError(_TARGET)
    addresses = [target]
    if colon and scheme in _OF_ADDRESSES:
        addresses = rest.split(",") if scheme != "dns" else [rest]
    elif colon and scheme in _SCHEMES_OF_GRPC:
        return target
    for address in addresses:
        _check_address(address.rpartition("/")[2])
    return target


def _check_address(address: str) -> None:
    """host, host:port, [v6]:port or a bare v6. Raises ValueError."""
    if address.count(":") > 1 and is_ip(address):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(_TARGET)
    if (port := found[1]) and not 0 < int(port) <= 65535:
        raise ValueError(f"{_TARGET}, with a port from 1 to 65535")


def zero_or_at_least(least: float) -> AfterValidator:
    """Refuses numbers between 0 and `least`."""

    def check(value: float) -> float:
        if 0 < value < least:
            raise ValueError(f"0 or at least {least:g}")
        return value

    return AfterValidator(check)


GrpcTarget = Annotated[str, Field(min_length=1), AfterValidator(_target)]


def is_server(url: str) -> bool:
    """Whether it is scheme, host and port of a server, and nothing else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or not port or " " in url:
        return False
    return not any((parts.path.strip("/"), parts.query, parts.fragment, parts.username))


def is_origin(url: str) -> bool:
    """Whether it is an origin as browsers send it: scheme, host and perhaps a port, in lower case, without a slash at
    the end; or null.
    """
    return url == "null" or _ORIGIN.fullmatch(url) is not None


def is_host_name(host: str) -> bool:
    """Whether it is a name or an IP address, without scheme, port and path."""
    return is_ip(host.removeprefix("[").removesuffix("]")) or not set(host) & set(":/@*[]?# ")


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
