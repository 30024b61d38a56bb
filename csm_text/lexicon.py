"""An operator's lexicon: a file with a word and its pronunciation on each line.

    # word        pronunciation            voice (optional)
    CSM           see ess em
    Nguyen        /W IH1 N/
    data          dah-ta                   rms

Columns are separated by tabs. A pronunciation is either other words, or phones of symbols.py between slashes, which
need a bundle with a text front end. A word begins with a letter or a digit and may contain spaces. It matches only
where no letter or digit is beside it. A word with a capital is case-sensitive; any other word matches in any case.
Where two entries match, the longer one is used; of two equally long ones, the one for this voice, then the
case-sensitive one.

A model without a front end reads spelling. For it a pronunciation in words is another spelling. This module reads no
bundle and knows no voices.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from csm_text.symbols import PHONES, PRIVATE

MOST_ENTRIES = 20_000
LONGEST = 200  # characters of a word, and of its pronunciation
MOST_BYTES = 40 * 2**20  # of a file: room for MOST_ENTRIES entries of LONGEST characters, in any script
_FIRST_PRIVATE = 0xF0000  # the character that stands for the first pronunciation in phones

_RUN = re.compile(r"(?<![^\W_])[^\W_]+")  # a whole run of letters and digits


class LexiconError(ValueError):
    """A lexicon cannot be used; the message names the file, the line, the given value and the allowed ones."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a lexicon. Either `phones` or `spelling` is empty."""

    word: str
    spelling: str = ""
    phones: tuple[str, ...] = ()
    voice: str = ""  # "" is every voice


class _Bucket:
    """The entries whose words begin with the same run of letters and digits."""

    def __init__(self) -> None:
        self.lengths: list[int] = []  # of the words, in characters
        self._case_sensitive: dict[str, tuple[int, str]] = {}  # word -> (precedence, replacement)
        self._any_case: dict[str, tuple[int, str]] = {}

    def add(self, word: str, replacement: str) -> None:
        """Entries are added in order of precedence."""
        word = word.replace("’", "'")
        words = self._any_case if word == word.lower() else self._case_sensitive
        words.setdefault(word, (len(self._case_sensitive) + len(self._any_case), replacement))
        if len(word) not in self.lengths:
            self.lengths.append(len(word))

    def find(self, text: str, start: int) -> tuple[int, str] | None:
        """The longest word that begins at `start`: (its end, its replacement)."""
        for length in self.lengths:
            end = start + length
            if not _is_boundary(text, end):
                continue
            word = text[start:end].replace("’", "'")
            found = [self._case_sensitive.get(word), self._any_case.get(word.lower())]
            if first := min(filter(None, found), default=None):
                return end, first[1]
        return None


class Lexicon:
    """The entries that apply to one speaker. It stores no text."""

    def __init__(self, *files: Sequence[Entry], voices: Collection[str] = ()) -> None:
        """files: the entries of each file, in order of precedence; voices: the speaker's names."""
        files = tuple(sorted(file, key=lambda entry: entry.word == entry.word.lower()) for file in files)
        own = [[entry for entry in file if entry.voice in voices and entry.voice] for file in files]
        general = [[entry for entry in file if not entry.voice] for file in files]
        entries = [entry for parts in zip(own, general, strict=True) for part in parts for entry in part]
        with_phones = sorted({entry.phones for entry in entries if entry.phones})
        self._phones = {chr(_FIRST_PRIVATE + index): phones for index, phones in enumerate(with_phones)}
        characters = {phones: character for character, phones in self._phones.items()}
        self._buckets: dict[str, _Bucket] = {}  # by the first run of a word, in small letters
        for entry in entries:
            replacement = characters[entry.phones] if entry.phones else PRIVATE.sub(" ", entry.spelling)
            self._buckets.setdefault(_first_run(entry.word), _Bucket()).add(entry.word, replacement)
        for bucket in self._buckets.values():
            bucket.lengths.sort(reverse=True)

    def respell(self, text: str) -> str:
        """The text with the entries' words replaced by other words, or by a private character for phones."""
        return "".join(self._pieces(text)) if self._buckets else text

    def phones(self, character: str) -> tuple[str, ...]:
        """The phones that a private character stands for; () for any other character."""
        return self._phones.get(character, ())

    def _pieces(self, text: str) -> Iterator[str]:
        done = 0
        for match in _RUN.finditer(text):
            bucket = self._buckets.get(match[0].lower())
            if bucket and match.start() >= done and (found := bucket.find(text, match.start())):
                yield text[done : match.start()]
                done, replacement = found
                yield replacement
        yield text[done:]


def read_lexicon(path: Path, *, phones: bool, voices: Collection[str]) -> list[Entry]:
    """Reads the entries of a file. phones: whether pronunciations may be phones; voices: those of the third column.

    Raises: LexiconError; OSError when the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise LexiconError(f"{path} has more than {MOST_BYTES} bytes.")
    try:
        lines = content.decode("utf-8-sig").splitlines()  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise LexiconError(f"{path} is no UTF-8: {error}.") from None
    entries: dict[tuple[str, str], Entry] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            entry = _entry(f"{path}, line {number}", line, phones, voices)
            key = (entry.word, entry.voice)
            if key in entries:
                raise LexiconError(f'{path}, line {number}: "{entry.word}" has an entry already.')
            entries[key] = entry
            if len(entries) > MOST_ENTRIES:
                raise LexiconError(f"{path}, line {number}: a lexicon may have {MOST_ENTRIES} entries.")
    return list(entries.values())


def _entry(where: str, line: str, phones: bool, voices: Collection[str]) -> Entry:
    cells = [cell.strip() for cell in line.split("\t")]
    cells = [cell for cell in cells if cell]  # several tabs in a row align columns
    if len(cells) not in (2, 3):
        raise LexiconError(
            f"{where} has {len(cells)} columns; a word, how it is said and perhaps a voice are needed, parted by tabs."
        )
    word, said, voice = cells[0], cells[1], cells[2] if len(cells) == 3 else ""
    for name, cell in (("the word", word), ("how it is said", said)):
        if len(cell) > LONGEST:
            raise LexiconError(f"{where}: {name} has {len(cell)} characters; {LONGEST} are allowed.")
    if not _RUN.match(word):
        raise LexiconError(f'{where}: the word is "{word}"; it must begin with a letter or a digit.')
    if voice and voice not in voices:
        raise LexiconError(f'{where}: the voice is "{voice}"; allowed are {", ".join(sorted(voices))}.')
    if not (said.startswith("/") and said.endswith("/") and len(said) > 1):
        return Entry(word, spelling=said, voice=voice)
    if not phones:
        raise LexiconError(f'{where}: how it is said is "{said}"; phones need a bundle with a text front end.')
    listed = tuple(said[1:-1].split())
    for phone in listed:
        if phone not in PHONES:
            raise LexiconError(f'{where}: there is no phone "{phone}"; allowed are {" ".join(PHONES)}.')
    if not listed:
        raise LexiconError(f"{where}: there are no phones between the slashes.")
    return Entry(word, phones=listed, voice=voice)


def _first_run(word: str) -> str:
    match = _RUN.match(word)
    return match[0].lower() if match else ""


def _is_boundary(text: str, end: int) -> bool:
    """Whether a word may end here: before no letter, no digit and no accent."""
    return end >= len(text) or not (text[end].isalnum() or unicodedata.combining(text[end]))
