"""The bearer token of every call. It is not sent in plaintext to other hosts.

The token is a secret: no message and no repr here contains it.
"""

from __future__ import annotations

import re
from pathlib import Path

from csm_client.channel import TlsOptions, is_encrypted
from csm_client.errors import TokenError
from csm_client.requests import check_names
from csm_client.targets import is_loopback

CallMetadata = tuple[tuple[str, str], ...]

_TOKEN = re.compile(r"[!-~]+")  # printable ASCII, no space


class ConnectionOptions(TlsOptions, total=False):
    """How to reach a server, and as which caller."""

    token: str | None  # sent with every call
    insecure_token: bool  # also in plaintext to other hosts


def call_metadata(target: str, options: ConnectionOptions, *, own_channel: bool = False) -> CallMetadata:
    """The metadata of every call. Raises TokenError, and TypeError for an unknown option.

    own_channel: the caller passed its own channel, and is responsible for the token on it
    """
    check_names(options, ConnectionOptions.__optional_keys__)
    token = options.get("token")
    if token is None:
        return ()
    if not _TOKEN.fullmatch(token):
        raise TokenError("A token is one word of printable ASCII characters; this one is not.")
    protected = is_encrypted(options) or is_loopback(target) or own_channel
    if not protected and not options.get("insecure_token"):
        raise TokenError(
            f"The token would go to {target} in plaintext, for everybody on the way to read."
            " Use TLS, or allow it with insecure_token (csm: --insecure-token)."
        )
    return (("authorization", f"Bearer {token}"),)


def load_token(path: Path) -> str:
    """The token in a file, without the blanks and line ends round it. Raises TokenError."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise TokenError(f"{path} holds no token: a token is printable ASCII.") from None
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error}") from None
    if not token:
        raise TokenError(f"{path} is empty; it must hold a token.")
    return token
