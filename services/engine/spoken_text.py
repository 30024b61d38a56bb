"""Converts the text of a request for the tokenizer: by the lexicons, then by the bundle's text front end.

It knows no model and no gRPC. The operator's lexicon is reloaded when its file changes. If the new one is invalid, the
last valid one stays in use.
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
from services.common.followed_files import FollowedFiles

_Lexicons = Mapping[int | None, Lexicon]  # by speakers with own entries; None: for all other speakers


class LexiconFileError(OSError):
    """The operator's lexicon cannot be used; the message names it."""


class SpokenText:
    """Converts texts, for each speaker. Thread-safe."""

    def __init__(
        self, bundle: Bundle, lexicon: Path | None, on_reload: Callable[[bool], None] = lambda usable: None
    ) -> None:
        """lexicon: the operator's file, whose entries override those of the bundle. on_reload: see FollowedFiles

        Raises: BundleError, LexiconFileError.
        """
        self.front_end = _front_end(bundle)
        self._voices = {voice.name: voice.speaker for voice in bundle.voices}
        self._of_bundle = self._bundle_entries(bundle)
        self._bundle_lexicons = self._lexicons_of([])
        self._file: FollowedFiles[_Lexicons] | None = None
        if lexicon is not None:
            self._file = FollowedFiles(
                [lexicon], lambda: self._lexicons_of(self._operator_entries(lexicon)), on_reload=on_reload
            )

    @property
    def changes_nothing(self) -> bool:
        """Whether every text stays as it is written, and no file can change that."""
        return self.front_end is None and self._file is None and not self._of_bundle

    def read(self, speaker: int, text: str) -> str:
        """Converts one text. Never fails; takes 0.2 ms per sentence, and milliseconds for each unknown word."""
        return self._read(self._lexicons(), speaker, text)

    def _lexicons(self) -> _Lexicons:
        return self._bundle_lexicons if self._file is None else self._file.current

    def _read(self, lexicons: _Lexicons, speaker: int, text: str) -> str:
        lexicon = lexicons.get(speaker, lexicons[None])
        if self.front_end is None:
            return lexicon.respell(text)
        return self.front_end.utterance(text, lexicon)

    def of_a_request(self) -> Read:
        """A converter for the segments of one request, which uses one version of the lexicons. Not thread-safe."""
        if self.changes_nothing:
            return as_written
        lexicons = cache(self._lexicons)
        return lambda segment: self._read(lexicons(), segment.speaker, segment.text)

    def _lexicons_of(self, entries: Sequence[Entry]) -> _Lexicons:
        """entries: the operator's"""
        lexicons: dict[int | None, Lexicon] = {None: Lexicon(entries, self._of_bundle)}
        voices = {entry.voice for entry in (*entries, *self._of_bundle) if entry.voice}
        for speaker in {self._voices[voice] for voice in voices}:
            names = [name for name, number in self._voices.items() if number == speaker]
            lexicons[speaker] = Lexicon(entries, self._of_bundle, voices=names)
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
