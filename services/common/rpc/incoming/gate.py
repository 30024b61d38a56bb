"""A gate that a server closes when it stops: to all callers but those that drain before it and still need it."""

from __future__ import annotations

from typing import Any

import grpc

from services.common.rpc.incoming.lingering import Handler
from services.common.rpc.status import StatusError


class Gate:
    """Through which the calls of a server pass: open to all, or in the end to those of some addresses."""

    def __init__(self) -> None:
        self.open_to = ""  # with what the address of a caller begins

    def before(self, handler: Handler) -> Handler:
        """The handler, which raises StatusError UNAVAILABLE, DRAINING, for callers to which the gate is closed."""

        async def passed(request: Any, context: Any) -> Any:
            if not context.peer().startswith(self.open_to):
                why = "The server is stopping, and takes no new calls."
                raise StatusError(grpc.StatusCode.UNAVAILABLE, "DRAINING", why, retry_delay_s=1.0)
            return await handler(request, context)

        return passed
