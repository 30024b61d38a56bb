"""Types of the arguments of `csm`: what does not fit a field of the request is refused. The server checks the rest."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from pathlib import Path

from csm_client.command.output import STANDARD_OUTPUT
from csm_client.files import is_unicode
from csm_client.requests import LONGEST_S
from csm_client.tables.sampling import LARGEST_FLOAT

MIN_RATE_HZ, MAX_RATE_HZ = 8000, 192_000


def deadline(text: str) -> float:
    """Type of an argument: seconds that the library can wait."""
    value = float(text)
    if not 0 < value <= LONGEST_S:
        raise ArgumentTypeError(f"must be above 0 and at most {LONGEST_S:g}, not {text}")
    return value


def target(text: str) -> str:
    """Type of an argument: a gRPC target. The library would take a port above 65535 for another one."""
    port = text.rpartition(":")[2]
    if not text.strip() or (port.isdecimal() and not 0 < int(port) <= 65535):
        raise ArgumentTypeError(f"must be host:port, with a port from 1 to 65535, not {text!r}")
    return text


def utf8(text: str) -> str:
    """Type of an argument: text that can be sent."""
    if not is_unicode(text):
        raise ArgumentTypeError("must be UTF-8")
    return text


def seconds(text: str) -> float:
    """Type of an argument: a length that can be sent."""
    value = float(text)
    if not abs(value) < LONGEST_S:
        raise ArgumentTypeError(f"must be below {LONGEST_S:g}, not {text}")
    return value


def number(text: str) -> float:
    """Type of an argument: a number of 32 bits."""
    value = float(text)
    if not abs(value) <= LARGEST_FLOAT:
        raise ArgumentTypeError(f"must be a number of 32 bits, not {text}")
    return value


def out(text: str) -> Path:
    """Type of an argument: "-" and no other spelling is standard output."""
    path = Path(text)
    return path.absolute() if path == STANDARD_OUTPUT and text != "-" else path


def rate(text: str) -> int:
    """Type of an argument: a sample rate that the server takes of a recording."""
    value = int(text)
    if not MIN_RATE_HZ <= value <= MAX_RATE_HZ:
        raise ArgumentTypeError(f"must be from {MIN_RATE_HZ} to {MAX_RATE_HZ}, not {text}")
    return value


def int32(text: str) -> int:
    """Type of an argument: a whole number of 32 bits."""
    return _whole(text, 32)


def int64(text: str) -> int:
    """Type of an argument: a whole number of 64 bits."""
    return _whole(text, 64)


NUMBERS: Mapping[int, Callable[[str], float]] = {0: number, 32: int32, 64: int64}  # by the bits of a field


def _whole(text: str, bits: int) -> int:
    end = 2 ** (bits - 1)
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if not -end <= value < end:
        raise ArgumentTypeError(f"must be {-end} to {end - 1}, not {text}")
    return value
