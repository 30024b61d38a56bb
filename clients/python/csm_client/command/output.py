"""What `csm say` writes: which encoding goes into which file. It opens files and knows no channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from csm_client.audio_files import AudioFile, WavFile
from csm_client.errors import OutputFileError
from csm_client.tables.encodings import ENCODINGS, Encoding, encoding_of_suffix


@dataclass(frozen=True, slots=True)
class Output:
    """A file to be."""

    path: Path
    encoding: Encoding  # to ask for; never "wav", whose header is written here with its true lengths
    is_wav: bool

    def open(self, sample_rate_hz: int) -> AudioFile:
        """Raises OSError."""
        if self.is_wav and (self.encoding == "mulaw" or self.encoding == "alaw"):
            return WavFile(self.path, sample_rate_hz, self.encoding)
        return WavFile(self.path, sample_rate_hz) if self.is_wav else AudioFile(self.path)


def choose_output(path: Path | None, encoding: Encoding | None) -> Output:
    """What one leaves open follows from the other. Files that end in .wav are WAV, whatever the encoding.

    Raises OutputFileError when the two do not go together.
    """
    if encoding is None:
        encoding = encoding_of_suffix(path.suffix) or "wav" if path else "wav"
    path = path or Path(ENCODINGS[encoding].file)
    if not path.name or path.is_dir():
        raise OutputFileError(f"{path} is a folder; it must be a file.")
    row, own = ENCODINGS[encoding], encoding_of_suffix(path.suffix)
    if own != encoding:
        if row.container:
            suffixes = " or ".join(row.suffixes)
            raise OutputFileError(f"{path} cannot hold {row.container}; its name must end in {suffixes}.")
        if own is not None and ENCODINGS[own].container:
            raise OutputFileError(f"{path} cannot hold {encoding}; files of that name hold {ENCODINGS[own].container}.")
    is_wav = encoding == "wav" or path.suffix.lower() == ".wav"
    return Output(path, "pcm" if encoding == "wav" else encoding, is_wav)
