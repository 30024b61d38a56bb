"""The output of `csm say`: its encoding and its file. It opens files and knows no channel."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from csm_client.audio_files import AudioFile, WavFile
from csm_client.errors import OutputFileError
from csm_client.tables.encodings import ENCODINGS, Encoding, encoding_of_suffix

STANDARD_OUTPUT = Path("-")
ASK_AGAIN_S = 0.1  # for a reader of a FIFO
# A pipe with room takes PIPE_BUF bytes at once; half of it leaves room for a header. Windows has no such number.
PIECE_BYTES = getattr(select, "PIPE_BUF", 512) // 2

# What files of a suffix may hold beside what the table of encodings says.
_SEVERAL: dict[str, tuple[Encoding, ...]] = {".wav": ("pcm", "mulaw", "alaw"), ".raw": ("mulaw", "alaw")}
# Suffixes of formats that the server does not make.
_OTHERS = frozenset(".aif .aiff .amr .au .caf .m4a .mka .mp4 .weba .webm .wma".split())


@dataclass(slots=True)
class Output:
    """The destination of audio: a file to create, or an open one such as standard output, a FIFO or a device."""

    path: Path
    encoding: Encoding  # to ask for; never "wav", whose header is written here with its true lengths
    is_wav: bool
    is_straight: bool = False
    straight: BinaryIO | None = field(default=None, repr=False)  # once it is open

    @property
    def content(self) -> str:
        """What the file holds, as --encoding names it."""
        return "wav" if self.is_wav and self.encoding == "pcm" else self.encoding

    @property
    def is_standard_output(self) -> bool:
        """Whether nothing else may be printed there."""
        return is_standard_output(self.path)

    async def open_straight(self, timeout_s: float) -> None:
        """Opens a destination that is no regular file. A FIFO waits for its reader.

        Raises OSError, or OutputFileError when a FIFO has no reader within `timeout_s`.
        """
        if not self.is_straight:
            return
        if self.is_standard_output:
            if sys.stdout is None:
                raise OutputFileError("Standard output is closed.")
            self.straight = sys.stdout.buffer
            return
        until_s = time.monotonic() + timeout_s
        while (descriptor := _open_writer(self.path)) is None:
            if time.monotonic() >= until_s:
                raise OutputFileError(
                    f"No program has opened {self.path} for reading within {timeout_s:g} s (--deadline)."
                )
            await asyncio.sleep(ASK_AGAIN_S)
        os.set_blocking(descriptor, True)
        self.straight = os.fdopen(descriptor, "wb")

    async def write(self, file: AudioFile, content: bytes) -> None:
        """Writes `content` into what `open` returned. A pipe that is full is waited for, and a signal ends that."""
        if self.straight is None:
            file.write(content)
            return
        for start in range(0, len(content), PIECE_BYTES):
            await self.room()
            file.write(content[start : start + PIECE_BYTES])

    async def room(self) -> None:
        """Waits until some bytes may be written without blocking; not for what cannot be watched, as a regular file."""
        if self.straight is None:
            return
        loop, has_room = asyncio.get_running_loop(), asyncio.Event()
        try:
            descriptor = self.straight.fileno()
            loop.add_writer(descriptor, has_room.set)
        except (NotImplementedError, OSError):  # NotImplementedError: on Windows
            return
        try:
            await has_room.wait()
        finally:
            loop.remove_writer(descriptor)

    async def drain(self) -> None:
        """Waits until what was written has arrived; files have it at once."""

    def close(self) -> None:
        """Closes what `open_straight` opened."""
        if self.straight is not None and not self.is_standard_output:
            with suppress(BrokenPipeError):  # a write has met it before
                self.straight.close()

    def open(self, sample_rate_hz: int) -> AudioFile:
        """Raises OSError."""
        assert self.is_straight == (self.straight is not None)
        if self.is_wav and (self.encoding == "mulaw" or self.encoding == "alaw"):
            return WavFile(self.path, sample_rate_hz, self.encoding, self.straight)
        if self.is_wav:
            return WavFile(self.path, sample_rate_hz, straight=self.straight)
        return AudioFile(self.path, self.straight)


def choose_output(path: Path | None, encoding: Encoding | None) -> Output:
    """The destination: a missing encoding follows from the file, a missing file from the encoding.

    Files that end in .wav are WAV, with any encoding. Raises OutputFileError when file and encoding do not fit, or the
    file cannot be written.
    """
    if path is not None and (path == STANDARD_OUTPUT or is_straight(path)):
        encoding = encoding or "wav"
        return Output(path, "pcm" if encoding == "wav" else encoding, encoding == "wav", is_straight=True)
    if encoding is None:
        encoding = encoding_of_suffix(path.suffix) or "wav" if path else "wav"
    path = path or Path(ENCODINGS[encoding].file)
    check_file(path)
    _check_suffix(path, encoding)
    is_wav = encoding == "wav" or path.suffix.lower() == ".wav"
    return Output(path, "pcm" if encoding == "wav" else encoding, is_wav)


def check_file(path: Path) -> None:
    """Raises OutputFileError unless a file can be made there."""
    if not path.name or path.is_dir():
        raise OutputFileError(f"{path} is a folder; it must be a file.")
    try:
        target = path.resolve(strict=False)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, until Python 3.12
        target = path
    if target.is_symlink():
        raise OutputFileError(f"{path} is a link that leads nowhere.")
    folder = target.parent
    if not folder.is_dir():
        raise OutputFileError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputFileError(f"{path} cannot be written: you may not write to the folder {folder}.")


def check_apart(paths: Mapping[str, Path | None]) -> None:
    """Raises OutputFileError if two options name the same file, which would lose what it holds for one of them."""
    options: dict[str, str] = {}
    for option, path in paths.items():
        if path is None or path == STANDARD_OUTPUT or is_straight(path):
            continue
        if (other := options.setdefault(os.path.realpath(path), option)) != option:
            raise OutputFileError(f"{other} and {option} are both {path}; each needs a file of its own.")


def is_straight(path: Path) -> bool:
    """Whether it is there and is no regular file and no folder, or is where standard output goes."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or is_standard_output(path)


def is_standard_output(path: Path) -> bool:
    """Whether it is "-", or the file that standard output is."""
    if path == STANDARD_OUTPUT:
        return True
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # of a standard output that is closed, or no file
        return False


def _check_suffix(path: Path, encoding: Encoding) -> None:
    suffix, row, own = path.suffix.lower(), ENCODINGS[encoding], encoding_of_suffix(path.suffix)
    if suffix in _OTHERS:
        allowed = ", ".join(suffix for row in ENCODINGS.values() for suffix in row.suffixes)
        raise OutputFileError(f"{path} cannot hold {encoding}: {suffix} is another format; names may end in {allowed}.")
    if own == encoding or encoding in _SEVERAL.get(suffix, ()):
        return
    if row.container:
        suffixes = " or ".join(row.suffixes)
        raise OutputFileError(f"{path} cannot hold {row.container}; its name must end in {suffixes}.")
    if own is not None:
        held = ENCODINGS[own].container or own
        raise OutputFileError(f"{path} cannot hold {encoding}; files of that name hold {held}.")


def _open_writer(path: Path) -> int | None:
    """The open file; None for a FIFO without a reader."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(path.stat().st_mode):
            return None
        raise
