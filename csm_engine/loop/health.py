"""Whether an engine still computes numbers, judged by the sequences that end."""

from __future__ import annotations

import logging

from csm_bundle.errors import EngineFaultError
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import FinishReason

log = logging.getLogger("csm.engine")

MOST_INVALID = 8  # requests in a row that end with an invalid frame, until the whole engine fails


class EngineHealth:
    """One request may cause invalid frames of its own, and comes back in each failover. So it takes several requests,
    and none that makes a valid frame between them.
    """

    def __init__(self) -> None:
        self._invalid: set[str] = set()  # requests that ended with an invalid frame, since the last valid one

    def check(self, sequence: Sequence, reason: FinishReason | None) -> None:
        """Notes a frame. reason: of the sequence's end, if it was the last. Raises: EngineFaultError when only invalid
        frames come.
        """
        if reason is not FinishReason.INVALID_FRAME:
            self._invalid.clear()
            return
        name, number = sequence.request.request_id, sequence.num_frames
        log.error("frame %d of request %s is invalid: the model computed what is no number", number, name)
        self._invalid.add(name)
        if len(self._invalid) == MOST_INVALID:
            raise EngineFaultError(f"{MOST_INVALID} requests in a row ended with an invalid frame")
