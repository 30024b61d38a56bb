"""Text front ends by name. A bundle asks for one, and the name is part of its weights' digest.

    front_end = load("english-phonemes-3")
    front_end.phonemize("It's 3:45 pm.")  # "IH1 T S | TH R IY1 | F AO1 R T IY0 | F AY1 V | P IY1 | EH1 M ."

A front end always returns the same symbols for the same text. A change of symbols, dictionary, model or rules that
gives any text other symbols is a new front end, with a new number in its name.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

from csm_text.normalization.normalize import Normalizer
from csm_text.pronunciation.dictionary import Dictionary
from csm_text.pronunciation.letters import LetterModel
from csm_text.pronunciation.network import Network
from csm_text.pronunciation.pronounce import Pronouncer
from csm_text.pronunciation.whole_words import WholeWordModel
from csm_text.symbols import BOUNDARY, END, PRIVATE, STRENGTH, add_mark

DATA = Path(__file__).parent / "data"
_VERSIONS = {"english-phonemes-1": 1, "english-phonemes-2": 2, "english-phonemes-3": 3}
NAMES = tuple(_VERSIONS)


class UnknownFrontEndError(ValueError):
    """No front end has that name; the message lists the known names."""


class Lexicon(Protocol):
    """The interface of an operator's lexicon (lexicon.py)."""

    def respell(self, text: str) -> str:
        """The text with the lexicon's words replaced by other words, or by a `symbols.PRIVATE` character for phones."""

    def phones(self, character: str) -> tuple[str, ...]:
        """The phones that a private character stands for; () for a character that this lexicon did not make."""


class FrontEnd:
    """Converts English text to symbols. It stores no text, and many threads may use it at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        version = _VERSIONS[name]
        ngrams = LetterModel(DATA / "letters.xz")
        letters = ngrams if version < 3 else WholeWordModel(Network(DATA / "whole-words.xz"), ngrams)
        self._pronouncer = Pronouncer(Dictionary(DATA / "cmudict.z"), letters)
        self._normalize = Normalizer(self._pronouncer, version)

    def normalize(self, text: str) -> str:
        """The spoken words, parted by spaces: words in small letters, spelled letters as single capitals, and marks."""
        return self._normalize(text)

    def phonemize(self, text: str, lexicon: Lexicon | None = None) -> str:
        """Symbols parted by spaces: phones, `|` between words, and marks. A text without words is a pause, ".".

        lexicon: an operator's pronunciations, which take precedence over every rule. Raises nothing: any text is read.
        """
        text = PRIVATE.sub(" ", text)
        if lexicon is not None:
            text = lexicon.respell(text)
        symbols: list[str] = []
        phrase: list[str] = []
        for token in [*self._normalize(text).split(" "), ""]:
            if token in STRENGTH or token == "":
                self._add_phrase(symbols, phrase, lexicon)
                phrase = []
                if token:
                    add_mark(symbols, token)
            else:
                phrase.append(token)
        return " ".join(symbols) or END

    def utterance(self, text: str, lexicon: Lexicon | None = None) -> str:
        """As `phonemize`, with a full stop behind a text that ends without a mark ("- Milk", "Done ✅").

        Voices learn from texts that end with a mark. Without one the built-in voice omitted such words or went on
        speaking behind them.
        """
        symbols = self.phonemize(text, lexicon)
        return symbols if symbols.rpartition(" ")[2] in STRENGTH else f"{symbols} {END}"

    def _add_phrase(self, symbols: list[str], phrase: list[str], lexicon: Lexicon | None) -> None:
        """Appends the symbols of a phrase: the words between two marks."""
        words = [word if word.isascii() else "" for word in phrase]  # a private character has no phones of its own
        for word, phones in zip(phrase, self._pronouncer.phones(words), strict=True):
            if lexicon is not None and not word.isascii():
                phones = self._pronouncer.with_ending(lexicon.phones(word[0]), word[1:])
            if phones:
                if symbols and symbols[-1] not in STRENGTH:
                    symbols.append(BOUNDARY)
                symbols.extend(phones)


@cache
def load(name: str) -> FrontEnd:
    """The front end of that name, loaded once and cached. Raises: UnknownFrontEndError."""
    if name not in NAMES:
        raise UnknownFrontEndError(f'There is no text front end "{name}"; there is {", ".join(NAMES)}.')
    return FrontEnd(name)
