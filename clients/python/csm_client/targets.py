"""The hosts that a gRPC target names. It parses the text and asks no name service."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote


def is_loopback(target: str) -> bool:
    """Whether everything that a gRPC target names is this host. A name other than localhost is not."""
    scheme, colon, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return bool(colon)
    if scheme in ("ipv4", "ipv6") and colon:
        return all(_is_loopback_host(_host_of(unquote(address))) for address in rest.lstrip("/").split(","))
    if scheme == "dns" and colon:
        target = rest.rsplit("/", 1)[-1]
    return _is_loopback_host(_host_of(target))


def lists_several(target: str) -> bool:
    """Whether a target is a list of several addresses. A name is not, though it may have several."""
    scheme, _, addresses = target.partition(":")
    return scheme in ("ipv4", "ipv6") and "," in addresses


def first_address(target: str) -> str:
    """host:port of the first server in a list of several addresses, as `ipv4:` and `ipv6:` have them."""
    return unquote(target.partition(":")[2].lstrip("/").partition(",")[0])


def _host_of(address: str) -> str:
    """host, host:port, [v6]:port or a bare v6"""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.rpartition(":")
    return host if port.isdigit() and host and ":" not in host else address


def _is_loopback_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
