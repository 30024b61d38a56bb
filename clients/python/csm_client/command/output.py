"""What `csm say` writes: which encoding goes into which file. It opens files and knows no channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from csm_client.audio_files import AudioFile, WavFile
from csm_client.errors import OutputFileError
from csm_client.requests import Encoding

_OGG = (".ogg", ".opus")
_BY_SUFFIX: dict[str, Encoding] = {
    ".ogg": "opus",
    ".opus": "opus",
    ".raw": "pcm",
    ".pcm": "pcm",
    ".ulaw": "mulaw",
    ".alaw": "alaw",
}
_DEFAULT_NAMES: dict[Encoding, str] = {
    "wav": "speech.wav",
    "pcm": "speech.raw",
    "opus": "speech.ogg",
    "mulaw": "speech.wav",
    "alaw": "speech.wav",
}


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
        encoding = _BY_SUFFIX.get(path.suffix.lower(), "wav") if path else "wav"
    path = path or Path(_DEFAULT_NAMES[encoding])
    if not path.name or path.is_dir():
        raise OutputFileError(f"{path} is a folder; it must be a file.")
    if encoding == "opus" and path.suffix.lower() not in _OGG:
        raise OutputFileError(f"{path} cannot hold Ogg Opus; its name must end in .ogg or .opus.")
    if encoding != "opus" and path.suffix.lower() in _OGG:
        raise OutputFileError(f"{path} cannot hold {encoding}; files of that name hold Ogg Opus.")
    is_wav = encoding == "wav" or path.suffix.lower() == ".wav"
    return Output(path, "pcm" if encoding == "wav" else encoding, is_wav)
