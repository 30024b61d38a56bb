"""Limits how many syntheses a caller runs at once. It knows no token and no RPC. Each gateway counts for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from services.common.rpc.status import QuotaViolation, StatusError

EXCEEDED = "QUOTA_EXCEEDED"
_RETRY_S = 1.0  # a guess: it is unknown when one of the caller's streams ends


class StreamQuotas:
    """Counts the running syntheses of each caller."""

    def __init__(self, limit_of: Callable[[str], int], on_refusal: Callable[[], None]) -> None:
        """limit_of: the limit of a caller, by name; 0 is no limit"""
        self._limit_of = limit_of
        self._on_refusal = on_refusal
        self._running: Counter[str] = Counter()

    @contextmanager
    def one_more(self, caller: str) -> Iterator[None]:
        """Counts one synthesis while it runs. Raises StatusError RESOURCE_EXHAUSTED at the caller's limit."""
        limit = self._limit_of(caller)
        if limit and self._running[caller] >= limit:
            self._on_refusal()
            raise _refusal(caller, limit)
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]


def _refusal(caller: str, limit: int) -> StatusError:
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        EXCEEDED,
        f"{caller} already runs as many syntheses at once as it may: {limit}.",
        retry_delay_s=_RETRY_S,
        quota=QuotaViolation(f"caller:{caller}", f"syntheses at once: {limit}"),
        metadata={"max_streams": str(limit)},
    )
