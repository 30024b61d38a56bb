"""CMUdict: the first pronunciation of 125,000 English words, from one compressed file.

The words are sorted in one block of bytes and found by binary search, so loading is only decompression.
The file is made by recipes/english_phonemes; the notice of Carnegie Mellon University lies beside it.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from csm_text.symbols import PHONES

FIRST = 0x80  # the byte of the first phone. A line is a word, a space and one byte for each phone

Phones = tuple[str, ...]


class Dictionary:
    """Looks up the phones of a word in small letters, which may have an apostrophe."""

    def __init__(self, path: Path) -> None:
        """Loads the file. Raises: OSError or zlib.error if it cannot be used."""
        self._lines = zlib.decompress(path.read_bytes())  # begins and ends with a line feed

    def get(self, word: str) -> Phones | None:
        if not word.isascii():
            return None
        wanted = word.encode()
        low, high = 0, len(self._lines) - 1  # line feeds between which the line begins
        while low < high:
            start = self._lines.rfind(b"\n", low, (low + high) // 2 + 1)
            end = self._lines.find(b"\n", start + 1)
            found, _, phones = self._lines[start + 1 : end].partition(b" ")
            if found == wanted:
                return tuple(PHONES[phone - FIRST] for phone in phones)
            if found < wanted:
                low = end
            else:
                high = start
        return None

    def __contains__(self, word: str) -> bool:
        return self.get(word) is not None


def pack(entries: dict[str, Phones]) -> bytes:
    """The bytes of a file that `Dictionary` reads."""
    numbers = {phone: FIRST + index for index, phone in enumerate(PHONES)}
    lines = [(word, word.encode() + b" " + bytes(numbers[p] for p in phones)) for word, phones in entries.items()]
    return zlib.compress(b"\n" + b"\n".join([line for _, line in sorted(lines)]) + b"\n", 9)
