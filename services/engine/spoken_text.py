"""Converts the text of a request to what the tokenizer reads: the lexicons, then the bundle's text front end.

It knows no model and no gRPC. A changed lexicon of the operator is read again while the stage runs. When it is wrong,
the last good one stays in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from csm_bundle.bundle import Bundle
from csm_bundle.errors import BundleError
from csm_engine.model.prompt import Read, as_written
from csm_text.frontend import FrontEnd, UnknownFrontEndError, load
from csm_text.lexicon import Entry, Lexicon, LexiconError, read_lexicon
from services.common.watched_files import FollowedFiles

_Lexicons = Mapping[int | None, Lexicon]  # of speakers with words of their own; None: of all others


class LexiconFileError(OSError):
    """The operator's lexicon cannot be used; the message names it."""


class SpokenText:
    """What is read of a text, for each speaker. Threads may share it."""

    def __init__(
        self, bundle: Bundle, lexicon: Path | None, on_reload: Callable[[bool], None] = lambda usable: None
    ) -> None:
        """lexicon: the operator's file; its entries go before those of the bundle. on_reload: see FollowedFiles

        Raises: BundleError, LexiconFileError.
        """
        self.front_end = _front_end(bundle)
        self._voices = {voice.name: voice.speaker for voice in bundle.voices}
        self._own = self._bundle_entries(bundle)
        self._unchanged = self._of_speakers([])
        self._file: FollowedFiles[_Lexicons] | None = None
        if lexicon is not None:
            self._file = FollowedFiles(
                [lexicon], lambda: self._of_speakers(self._operator_entries(lexicon)), on_reload=on_reload
            )

    @property
    def changes_nothing(self) -> bool:
        """Whether every text is read as it is written, and no file can change that."""
        return self.front_end is None and self._file is None and not self._own

    def read(self, speaker: int, text: str) -> str:
        """Pure computation, 0.2 ms a sentence; no text is an error."""
        return self._read(self._lexicons(), speaker, text)

    def _lexicons(self) -> _Lexicons:
        return self._unchanged if self._file is None else self._file.get()

    def _read(self, lexicons: _Lexicons, speaker: int, text: str) -> str:
        lexicon = lexicons.get(speaker, lexicons[None])
        if self.front_end is None:
            return lexicon.respell(text)
        return self.front_end.phonemize(text, lexicon)

    def of_a_request(self) -> Read:
        """Reads the segments of one request, all with the same version of the lexicons. It is called in one thread."""
        if self.changes_nothing:
            return as_written
        lexicons = cache(self._lexicons)
        return lambda segment: self._read(lexicons(), segment.speaker, segment.text)

    def _of_speakers(self, entries: Sequence[Entry]) -> _Lexicons:
        lexicons: dict[int | None, Lexicon] = {None: Lexicon(entries, self._own)}
        with_words = {entry.voice for entry in (*entries, *self._own) if entry.voice}
        for speaker in {self._voices[name] for name in with_words}:
            names = [name for name, number in self._voices.items() if number == speaker]
            lexicons[speaker] = Lexicon(entries, self._own, voices=names)
        return lexicons

    def _operator_entries(self, path: Path) -> list[Entry]:
        try:
            return read_lexicon(path, phones=self.front_end is not None, voices=self._voices)
        except (OSError, LexiconError) as error:
            raise LexiconFileError(f"--lexicon cannot be used: {error}") from None

    def _bundle_entries(self, bundle: Bundle) -> list[Entry]:
        if "lexicon" not in bundle.parts:
            return []
        try:
            return read_lexicon(bundle.path("lexicon"), phones=self.front_end is not None, voices=self._voices)
        except (OSError, LexiconError) as error:
            raise BundleError(f"Bundle {bundle.name}: {error}") from None


def _front_end(bundle: Bundle) -> FrontEnd | None:
    if not bundle.text_frontend:
        return None
    try:
        return load(bundle.text_frontend)
    except UnknownFrontEndError as error:
        raise BundleError(f"Bundle {bundle.name}: text_frontend: {error}") from None
