"""Audio files and pipes. A file is complete or does not exist. They know no channel and no stream.

WAV: Multimedia Programming Interface and Data Specifications 1.0 (PCM), and its revision 3 (G.711: `fact` chunk).
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, Self

SampleEncoding = Literal["pcm", "mulaw", "alaw"]

_UNKNOWN = 0xFFFFFFFF  # length in the header of a file that cannot be rewound
_TAGS: dict[SampleEncoding, int] = {"pcm": 1, "alaw": 6, "mulaw": 7}


class AudioFile:
    """A file that is written as bytes arrive, and gets its name only when it is complete.

    Until `finish` the bytes are in a hidden file beside it. Leaving the block without `finish` removes that file. For a
    symbolic link the target is written, and the link stays.
    """

    def __init__(self, path: Path, straight: BinaryIO | None = None) -> None:
        """straight: an open file that takes the bytes directly, such as a pipe; it is not closed here

        Raises OSError.
        """
        self._path = Path(os.path.realpath(path))
        self._part = self._path.with_name(f".{self._path.name}.part")
        self._is_straight = straight is not None
        self._file = self._part.open("wb") if straight is None else straight
        self._finished = False

    def write(self, content: bytes) -> None:
        self._file.write(content)
        if self._is_straight:
            self._file.flush()

    def finish(self) -> None:
        """Gives the file its name."""
        if self._is_straight:
            self._file.flush()
        else:
            self._file.close()
            os.replace(self._part, self._path)
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished and not self._is_straight:
            with suppress(OSError):  # what it would still write, as on a full disk, is not wanted
                self._file.close()
            self._part.unlink(missing_ok=True)


class WavFile(AudioFile):
    """A mono WAV file: 16-bit samples, or one byte of mu-law or A-law each."""

    def __init__(
        self,
        path: Path,
        sample_rate_hz: int,
        encoding: SampleEncoding = "pcm",
        straight: BinaryIO | None = None,
    ) -> None:
        """straight: see AudioFile; the header then says the largest lengths. Raises OSError."""
        super().__init__(path, straight)
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
        if not self._is_straight:
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
            samples = _UNKNOWN if self._is_straight else self._size // sample_size
            chunks += _chunk(b"fact", struct.pack("<I", samples))
        riff_size = _UNKNOWN if self._is_straight else 4 + len(chunks) + 8 + self._size + self._size % 2
        data_size = _UNKNOWN if self._is_straight else self._size
        return struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE") + chunks + struct.pack("<4sI", b"data", data_size)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content
