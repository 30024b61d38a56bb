"""Packages that a library imports if they are there, and that take longer than the tests that do not need them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """Inside it they seem not to be installed, unless they are imported already."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None, as for what cannot be imported
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


# transformers would import them for what no test uses.
UNUSED_BY_TRANSFORMERS = ("sklearn", "torchao")
