"""Reads when an X.509 certificate expires.

`ssl` reports this only for a peer's certificate, after a handshake, and only the gateway depends on `cryptography`. So
the DER fields are parsed here. Nothing is verified: use it for files that a TLS library has accepted.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END ", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_FIELDS_BEFORE_VALIDITY = 3  # serial number, algorithm of the signature, issuer


def certificate_end_s(pem: bytes) -> float:
    """Unix time at which the first certificate of a PEM chain, the server's own, expires.

    Raises ValueError.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no PEM certificate")
    try:
        return _time_s(*_not_after(binascii.a2b_base64(found[1])))
    except (IndexError, ValueError) as error:
        raise ValueError(f"the end of the certificate cannot be read: {error}") from None


def _not_after(der: bytes) -> tuple[int, bytes]:
    """Tag and content of the field `notAfter` (RFC 5280, 4.1)."""
    fields = _inside(_inside(der))  # the certificate, and in it what is signed
    tag, _, rest = _element(fields)
    for _ in range(_FIELDS_BEFORE_VALIDITY if tag == _VERSION else _FIELDS_BEFORE_VALIDITY - 1):
        _, _, rest = _element(rest)
    _, _, after_not_before = _element(_inside(rest))
    tag, content, _ = _element(after_not_before)
    return tag, content


def _inside(data: bytes) -> bytes:
    tag, content, _ = _element(data)
    if tag != _SEQUENCE:
        raise ValueError(f"a sequence was expected, and not tag {tag:#x}")
    return content


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first DER element, and what follows it."""
    length, start = data[1], 2
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + length], data[start + length :]


def _time_s(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"a time was expected, and not tag {tag:#x}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
