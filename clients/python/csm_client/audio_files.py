"""Audio files that are whole or not there. They know no channel and no stream.

WAV: Multimedia Programming Interface and Data Specifications 1.0 (PCM), and its revision 3 (G.711: `fact` chunk).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal, Self

SampleEncoding = Literal["pcm", "mulaw", "alaw"]

_TAGS: dict[SampleEncoding, int] = {"pcm": 1, "alaw": 6, "mulaw": 7}


class AudioFile:
    """A file, written as its bytes come, that gets its name only when it is complete.

    Until `finish` the bytes are in a hidden file beside it, which leaving without `finish` removes.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._file = self._part.open("wb")
        self._finished = False

    def write(self, content: bytes) -> None:
        self._file.write(content)

    def finish(self) -> None:
        """Gives the file its name."""
        self._file.close()
        os.replace(self._part, self._path)
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._file.close()
            self._part.unlink()


class WavFile(AudioFile):
    """A mono WAV file: 16-bit samples, or one byte of mu-law or A-law each."""

    def __init__(self, path: Path, sample_rate_hz: int, encoding: SampleEncoding = "pcm") -> None:
        """Raises OSError."""
        super().__init__(path)
        self._sample_rate_hz = sample_rate_hz
        self._encoding = encoding
        self._size = 0
        self._file.write(self._header())

    def write(self, content: bytes) -> None:
        """content: samples, without a header"""
        self._size += len(content)
        super().write(content)

    def finish(self) -> None:
        """Writes the true lengths and gives the file its name."""
        if self._size % 2:
            self._file.write(b"\0")  # chunks are padded to even sizes
        self._file.seek(0)
        self._file.write(self._header())
        super().finish()

    def _header(self) -> bytes:
        sample_size = 2 if self._encoding == "pcm" else 1
        rate = self._sample_rate_hz
        layout = (_TAGS[self._encoding], 1, rate, rate * sample_size, sample_size, 8 * sample_size)
        if self._encoding == "pcm":
            chunks = _chunk(b"fmt ", struct.pack("<HHIIHH", *layout))
        else:
            chunks = _chunk(b"fmt ", struct.pack("<HHIIHHH", *layout, 0))
            chunks += _chunk(b"fact", struct.pack("<I", self._size // sample_size))
        riff_size = 4 + len(chunks) + 8 + self._size + self._size % 2
        return struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE") + chunks + struct.pack("<4sI", b"data", self._size)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content
