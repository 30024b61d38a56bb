"""The deadline of a call: the client's, or the server's default when the client sets none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from services.common.rpc.calls import Context
from services.common.rpc.status import StatusError
from services.gateway.settings import GatewaySettings

PASSED = "DEADLINE_EXCEEDED"  # reason of the error; that of gRPC's own error is its code


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock."""

    at_s: float

    @classmethod
    def of(cls, context: Context, settings: GatewaySettings) -> Deadline:
        """The deadline of a call that has just arrived."""
        remaining_s = context.time_remaining()
        allowed_s = settings.default_deadline_seconds if remaining_s is None else remaining_s
        return cls(time.monotonic() + min(settings.max_deadline_seconds, allowed_s))

    @property
    def remaining_s(self) -> float:
        return max(0.0, self.at_s - time.monotonic())

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Ends the block at the deadline and raises StatusError DEADLINE_EXCEEDED, also if a stage reported it first,
        for calls to stages have the same deadline.
        """
        try:
            async with asyncio.timeout(self.remaining_s):
                yield
        except TimeoutError:
            raise deadline_exceeded() from None
        except StatusError as error:
            if error.reason == PASSED:
                raise deadline_exceeded() from None
            raise

    def require(self, least_s: float) -> None:
        """Raises StatusError DEADLINE_EXCEEDED when less than `least_s` is left."""
        if self.remaining_s < least_s:
            raise StatusError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "DEADLINE_TOO_SHORT",
                f"{self.remaining_s:.3f} s are left, but the first audio takes at least {least_s:g} s.",
            )


def deadline_exceeded() -> StatusError:
    """The error of a call that has passed its deadline."""
    return StatusError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        PASSED,
        "The audio was not ready within the deadline; set a longer one or ask for less audio.",
    )
