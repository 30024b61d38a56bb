"""The replicas of one stage that have answered lately. gRPC hides how many there are.

A replica that has answered nothing for `KNOWN_S` is forgotten: it may be gone. It knows no stage.
"""

from __future__ import annotations

import time
from typing import Any

from services.common.rpc import replica_id

KNOWN_S = 600.0


class KnownReplicas:
    """Their ids, and when each has answered last."""

    def __init__(self) -> None:
        self._answered_at_s: dict[str, float] = {}

    async def note_start(self, call: Any) -> None:
        """Notes the replica of a stream of grpc.aio that has sent a message."""
        self.note(await call.initial_metadata())

    async def note_end(self, call: Any) -> None:
        """Notes the replica of a call of grpc.aio that has ended well."""
        self.note(await call.trailing_metadata())

    def note(self, metadata: replica_id.Metadata | None) -> str:
        """Notes the replica that has sent this metadata. Returns its id; "" when it has none."""
        if replica := replica_id.of(metadata):
            if replica not in self._answered_at_s:
                self._forget_silent()
            self._answered_at_s[replica] = time.monotonic()
        return replica

    def ids(self) -> frozenset[str]:
        self._forget_silent()
        return frozenset(self._answered_at_s)

    def _forget_silent(self) -> None:
        oldest_s = time.monotonic() - KNOWN_S
        for replica in [replica for replica, at_s in self._answered_at_s.items() if at_s < oldest_s]:
            del self._answered_at_s[replica]
