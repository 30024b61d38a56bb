"""A place in the list of voices, where a page starts, and its form as a token."""

from __future__ import annotations

import re
from dataclasses import dataclass

from csm_bundle.voice_folder import VOICE_NAME

_INDEX = re.compile(r"[0-9]{0,9}")
_MARK = ":"  # before a name, which may be digits


@dataclass(frozen=True, slots=True)
class Place:
    """A voice of the model, or the first voice after a name among the others, which come later."""

    index: int = 0  # among the model's voices; its number if all were listed
    after: str = ""  # "" before the first of the others

    @staticmethod
    def of(token: str) -> Place | None:
        """None for a token that `token` does not make."""
        if token.startswith(_MARK):
            name = token.removeprefix(_MARK)
            return Place(after=name) if VOICE_NAME.fullmatch(name) else None
        return Place(int(token or 0)) if _INDEX.fullmatch(token) else None

    @property
    def token(self) -> str:
        return f"{_MARK}{self.after}" if self.after else str(self.index)
