"""Which web pages may call. A browser sends requests of any page that it shows, also to servers on its own machine.

Two headers are checked that no page can set: Host, against DNS rebinding, and the origin of the page, against
cross-site requests.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from services.common.setting_types import is_ip
from services.http.api.errors import ApiError
from services.http.settings import HttpSettings, comma_separated

ANY = "*"
_READING = ("GET", "HEAD", "OPTIONS")


class Origins:
    """The allowed origins and hosts."""

    def __init__(self, settings: HttpSettings) -> None:
        self._pages = comma_separated(settings.cors_origins)
        self._hosts = comma_separated(settings.allowed_hosts.lower()) or ([] if _is_own(settings.host) else [ANY])

    def check_host(self, headers: Headers) -> None:
        """Raises ApiError 403 for a name that is not this server's. IP addresses and localhost are allowed."""
        host = _name(headers.get("host", ""))
        if ANY in self._hosts or host in self._hosts or not host or _is_own(host) or is_ip(host):
            return
        raise ApiError(403, f"This server is not known as {host}; see --allowed-hosts.", code="host_not_allowed")

    def check_page(self, headers: Headers, method: str) -> None:
        """Raises ApiError 403 for a request of another origin that does more than read.

        Without the headers of --cors-origins the browser hides answers from such a page, so it may send reads. The
        check is that of Go's http.CrossOriginProtection: Sec-Fetch-Site is right even behind a proxy that changes Host.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if method in _READING or ANY in self._pages or origin in self._pages:
            return
        is_own = site in ("same-origin", "none") if site else origin is None or _netloc(origin) == headers.get("host")
        if not is_own:
            raise ApiError(
                403, f"Pages of {origin or 'other sites'} may not call; see --cors-origins.", code="origin_not_allowed"
            )


def _name(host: str) -> str:
    """The name in host, host:port or [v6]:port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_own(host: str) -> bool:
    """Whether it is localhost or a loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return is_ip(host) and ipaddress.ip_address(host).is_loopback
