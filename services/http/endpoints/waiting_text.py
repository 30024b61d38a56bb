"""Limits the text of a WebSocket session that the gateway has not taken yet."""

from __future__ import annotations

import sys

from services.http.api.bodies import Bodies, Share, too_many
from services.http.api.errors import ApiError

MOST_CHARACTERS = 200_000
MOST_PIECES = 20_000
PIECE_COST_BYTES = 100  # in memory, beside its text

Piece = tuple[str, bool]  # the text, and whether it ends its sentence


class WaitingText:
    """Counts the pieces of all utterances of a session. Their bytes count in the budget of bodies."""

    def __init__(self, bodies: Bodies) -> None:
        self._share = Share(bodies.try_take)
        self._bytes = self._characters = self._pieces = 0

    def check(self, text: str) -> None:
        """Before it is cut into pieces. Raises ApiError when the text is far ahead of the speech."""
        if self._characters + len(text) > MOST_CHARACTERS or self._pieces >= MOST_PIECES:
            raise ApiError(429, "The text is too far ahead of the speech.", param="text", code="text_too_fast")

    def add(self, piece: Piece) -> None:
        """Raises ApiError when there is no room beside the bodies of others."""
        if not self._share.try_hold(self._bytes + _cost(piece)):
            raise too_many()
        self._bytes += _cost(piece)
        self._pieces += 1
        self._characters += len(piece[0])

    def remove(self, piece: Piece) -> None:
        """It waits no more."""
        self._bytes -= _cost(piece)
        self._share.try_hold(self._bytes)
        self._pieces -= 1
        self._characters -= len(piece[0])


def _cost(piece: Piece) -> int:
    return sys.getsizeof(piece[0]) + PIECE_COST_BYTES
